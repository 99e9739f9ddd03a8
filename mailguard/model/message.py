"""A message as bytes with a byte-exact index of its header fields; never re-serialised (RFC 5322 §2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from email.header import decode_header
from functools import cached_property
from mmap import mmap

_NAME = re.compile(rb"([\x21-\x39\x3b-\x7e]+)[ \t]*:")
_FOLD = re.compile(r"\r?\n(?=[ \t])")


@dataclass(frozen=True, slots=True)
class Field:
    """One header field: ``raw`` is all its octets with the final line end, ``name`` as written."""

    name: str
    raw: bytes

    @property
    def value(self) -> str:
        """The field body unfolded, stripped; octets that are not UTF-8 become surrogates."""
        text = self.raw[self.raw.index(b":") + 1 :].decode("utf-8", "surrogateescape")
        return _FOLD.sub("", text).strip()

    @property
    def decoded(self) -> str:
        """The field body with RFC 2047 encoded words decoded, for people to read."""
        value = self.value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if "=?" not in value:
            return value
        try:
            return "".join(
                part if isinstance(part, str) else part.decode(charset or "ascii", "replace")
                for part, charset in decode_header(value)
            )
        except (LookupError, ValueError):
            return value


class Message:
    """A message as received. ``raw`` is the whole of it, in memory or mapped from a spool file.

    ``prepend`` and ``without`` give a new Message over the same octets; the body is never copied or changed.
    """

    __slots__ = ("__dict__", "_dropped", "prefix", "raw")

    def __init__(self, raw: bytes | mmap, *, prefix: bytes = b"", dropped: frozenset[int] = frozenset()) -> None:
        self.raw = raw
        self.prefix = prefix
        self._dropped = dropped

    @cached_property
    def body_start(self) -> int:
        """The offset in ``raw`` of the first body octet, or its length where there is no body."""
        if self.raw[:2] == b"\r\n":
            return 2
        end = self.raw.find(b"\r\n\r\n")
        return end + 4 if end >= 0 else len(self.raw)

    @cached_property
    def _places(self) -> list[tuple[str, int, int]]:
        return list(_spans(self.raw[: self.body_start]))

    @cached_property
    def _all_fields(self) -> tuple[Field, ...]:
        return tuple(Field(name, self.raw[start:end]) for name, start, end in self._places)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The header fields in order, without those dropped; what was prepended is not among them."""
        if not self._dropped:
            return self._all_fields
        return tuple(f for n, f in enumerate(self._all_fields) if n not in self._dropped)

    def get_all(self, name: str) -> list[Field]:
        """Every field of this name, case ignored, top first."""
        wanted = name.lower()
        return [f for f in self.fields if f.name.lower() == wanted]

    def get(self, name: str) -> str:
        """The unfolded body of the first field of this name, ``""`` if there is none."""
        found = self.get_all(name)
        return found[0].value if found else ""

    @property
    def header(self) -> bytes:
        """The header section as it will be passed on, blank line included."""
        if not self._dropped:
            return self.prefix + self.raw[: self.body_start]
        kept, at = [self.prefix], 0
        for n in sorted(self._dropped):  # cut out, so that lines which are no fields stay where they are
            _, start, end = self._places[n]
            kept.append(self.raw[at:start])
            at = end
        return b"".join((*kept, self.raw[at : self.body_start]))

    @property
    def body(self) -> memoryview:
        """The body octets, not copied."""
        return memoryview(self.raw)[self.body_start :]

    def chunks(self) -> tuple[bytes, memoryview]:
        """The message as two buffers to write one after the other."""
        return self.header, self.body

    def __bytes__(self) -> bytes:
        return self.header + self.body

    def __len__(self) -> int:
        return len(self.header) + len(self.raw) - self.body_start

    def prepend(self, *fields: bytes) -> Message:
        """With these complete header fields (each ending in CRLF) on top, the first one topmost."""
        new = Message(self.raw, prefix=b"".join(fields) + self.prefix, dropped=self._dropped)
        new.__dict__.update(self.__dict__)  # what is known of the octets stays known
        return new

    def without(self, fields: Iterable[Field]) -> Message:
        """Without these fields, compared by identity with those in ``fields``."""
        gone = {id(f) for f in fields}
        dropped = {n for n, f in enumerate(self._all_fields) if id(f) in gone}
        new = Message(self.raw, prefix=self.prefix, dropped=self._dropped | dropped)
        new.__dict__.update(self.__dict__)
        return new


def split_fields(header: bytes) -> list[Field]:
    """The fields of a header section; a line that is no field is skipped."""
    return [Field(name, header[start:end]) for name, start, end in _spans(header)]


def _spans(header: bytes) -> Iterable[tuple[str, int, int]]:
    """The name of each field, and where it begins and ends."""
    start = 0
    name = ""
    for line_start, line in _lines(header):
        if line[:1] in (b" ", b"\t"):
            continue
        if name:
            yield name, start, line_start
        match = _NAME.match(line)
        name = match[1].decode("ascii") if match else ""
        start = line_start
    if name:
        yield name, start, len(header) - 2 if header.endswith(b"\r\n\r\n") else len(header)


def _lines(header: bytes) -> Iterable[tuple[int, bytes]]:
    at = 0
    for line in header.split(b"\n"):
        if line not in (b"", b"\r"):
            yield at, line
        at += len(line) + 1
