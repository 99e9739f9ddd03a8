"""Where things stand in a TOML file, so that every mistake can be shown with its line and column."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]
"""The way to a value: keys, and for arrays of tables and arrays the number from 0."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]\}#\r\n]+")
_PLAINLY = {
    "Invalid value": "no value that TOML knows: text needs quotes, and every bracket its other half",
    "Expected '=' after a key in a key/value pair": "a setting is written `name = value`",
}
_AT_LINE = re.compile(r"^(.*) \(at (?:line (\d+), column (\d+)|end of document)\)$", re.S)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file; lines and columns count from 1 (0: the file as a whole), ``path`` is the dotted way to
    the key. As text: ``file:line:column: dotted.path: text (suggestion)``."""

    file: str
    line: int
    column: int
    text: str
    suggestion: str = ""
    path: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        path = f"{self.path}: " if self.path else ""
        hint = f" ({self.suggestion})" if self.suggestion else ""
        return f"{where}: {path}{self.text}{hint}"


class PolicyError(Exception):
    """A policy file cannot be used; ``problems`` lists every mistake in it, top to bottom."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda p: (p.file, p.line, p.column))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True, slots=True)
class Place:
    """Offsets into the text: of a key, and of its value (past the opening quotes of a string)."""

    key: int
    value: int


class Source:
    """A TOML file's name, text, values and the places of all its keys. Raises PolicyError if it is no TOML."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        try:
            self.data: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise PolicyError([_syntax(name, text, error)]) from None
        self._places = dict(_Scanner(text).places())

    def position(self, path: Path, *, value: bool = False) -> tuple[int, int]:
        """Line and column of a key, or of its value; of the nearest key above it that stands in the file."""
        for end in range(len(path), 0, -1):
            if place := self._places.get(path[:end]):
                return line_column(self.text, place.value if value and end == len(path) else place.key)
        return 1, 1

    def line(self, path: Path) -> int:
        """The line of a key."""
        return self.position(path)[0]

    def problem(
        self, path: Path, text: str, suggestion: str = "", *, value: bool = False, shift: tuple[int, int] = (0, 0)
    ) -> Problem:
        """A mistake at a key or value, ``shift`` lines and columns into the value."""
        line, column = self.position(path, value=value)
        down, right = shift
        dotted = ".".join(map(str, path))
        return Problem(self.name, line + down, right + 1 if down else column + right, text, suggestion, dotted)


def line_column(text: str, offset: int) -> tuple[int, int]:
    """The line and column, from 1, of an offset."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean "x"?`` for the nearest known word, else what is known, as long as that is short."""
    words = sorted(known)
    import difflib  # for mistakes only

    near = difflib.get_close_matches(word, words, 1, 0.6)
    if near:
        return f'did you mean "{near[0]}"?'
    return f"known: {', '.join(words)}" if 0 < len(words) <= 12 else ""


def _syntax(name: str, text: str, error: tomllib.TOMLDecodeError) -> Problem:
    match = _AT_LINE.match(str(error))
    if match and match[2]:
        return Problem(name, int(match[2]), int(match[3]), _PLAINLY.get(match[1], match[1]))
    end = line_column(text, len(text.rstrip()))
    return Problem(name, *end, match[1] if match else str(error))


class _Scanner:
    """Walks over text that is known to be valid TOML and tells where each key and value stands."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counts: dict[Path, int] = {}

    def places(self) -> Iterator[tuple[Path, Place]]:
        table: Path = ()
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return
            if self._text[self._at] == "[":
                start = self._at
                table = self._header()
                yield table, Place(start, start)
            else:
                yield from self._pair(table)

    def _header(self) -> Path:
        double = self._text.startswith("[[", self._at)
        self._at += 2 if double else 1
        path = self._resolve(self._key())
        self._at += 2 if double else 1
        if double:
            number = self._counts.get(path, -1) + 1
            self._counts[path] = number
            return (*path, number)
        return path

    def _resolve(self, keys: list[str]) -> Path:
        # [[check]] then [check.options]: the last element of an array of tables is meant.
        path: Path = ()
        for n, key in enumerate(keys):
            path = (*path, key)
            if n < len(keys) - 1 and path in self._counts:
                path = (*path, self._counts[path])
        return path

    def _pair(self, table: Path) -> Iterator[tuple[Path, Place]]:
        start = self._at
        path = (*table, *self._key())
        self._at += 1  # =
        self._skip(_SPACE)
        value, inner = self._value(path)
        for end in range(len(table) + 1, len(path)):
            yield path[:end], Place(start, start)
        yield path, Place(start, value)
        yield from inner

    def _key(self) -> list[str]:
        keys = []
        while True:
            self._skip(_SPACE)
            if self._text[self._at] in "\"'":
                begin = self._at
                self._string()
                keys.append(next(iter(tomllib.loads(self._text[begin : self._at] + "=0"))))
            else:
                match = _BARE.match(self._text, self._at)
                assert match is not None
                keys.append(match[0])
                self._at = match.end()
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _value(self, path: Path) -> tuple[int, list[tuple[Path, Place]]]:
        start, first = self._at, self._text[self._at]
        if first in "\"'":
            return start + self._string(), []
        if first == "[":
            return start, self._array(path)
        if first == "{":
            return start, self._inline(path)
        self._skip(_SCALAR)
        return start, []

    def _string(self) -> int:
        """Moves past a string; returns the length of its opening quotes (and of a newline right after them)."""
        text, quote = self._text, self._text[self._at]
        if text.startswith(quote * 3, self._at):
            opening = 3 + (2 if text.startswith("\r\n", self._at + 3) else text.startswith("\n", self._at + 3))
            self._close(self._at + 3, quote * 3)
            while text.startswith(quote, self._at):
                self._at += 1
            return opening
        self._close(self._at + 1, quote)
        return 1

    def _close(self, at: int, quote: str) -> None:
        while not self._text.startswith(quote, at):
            at += 2 if self._text[at] == "\\" and quote[0] == '"' else 1
        self._at = at + len(quote)

    def _array(self, path: Path) -> list[tuple[Path, Place]]:
        found: list[tuple[Path, Place]] = []
        self._at += 1
        number = 0
        while True:
            self._skip(_BLANK)
            if self._text[self._at] == "]":
                self._at += 1
                return found
            if self._text[self._at] == ",":
                self._at += 1
                continue
            here, start = (*path, number), self._at
            value, inner = self._value(here)
            found += [(here, Place(start, value)), *inner]
            number += 1

    def _inline(self, path: Path) -> list[tuple[Path, Place]]:
        found: list[tuple[Path, Place]] = []
        self._at += 1
        while True:
            self._skip(_BLANK)
            if self._text[self._at] == "}":
                self._at += 1
                return found
            if self._text[self._at] == ",":
                self._at += 1
                continue
            found += self._pair(path)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match:
            self._at = match.end()


def flatten(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested tables as ``dotted.name, value`` pairs."""
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
