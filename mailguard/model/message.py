"""A message as bytes with a byte-exact index of its header fields; never re-serialised (RFC 5322 §2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from mmap import mmap
from typing import NamedTuple

from mailguard.model.charset import decode_words
from mailguard.model.mime import Part, parse

# A line that is no field, nor continues one, is skipped with what continues it; empty lines stay where they are.
_FIELD = re.compile(rb"^([\x21-\x39\x3b-\x7e]+)[ \t]*:[^\n]*+(?:\n(?:[ \t][^\n]*+|\r?(?=\n|\Z)))*+\n?", re.MULTILINE)
_FOLD = re.compile(r"\r?\n(?=[ \t])")


class Field(NamedTuple):
    """One header field: ``raw`` is all its octets with the final line end, ``name`` as written."""

    name: str
    raw: bytes

    @property
    def value(self) -> str:
        """The field body unfolded, stripped; octets that are not UTF-8 become surrogates."""
        text = self.raw[self.raw.index(b":") + 1 :].decode("utf-8", "surrogateescape").strip()
        return _FOLD.sub("", text) if "\n" in text else text

    @property
    def decoded(self) -> str:
        """The field body with RFC 2047 encoded words decoded, for people to read."""
        value = self.value
        if not value.isascii():
            value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return decode_words(value)


class _Head:
    """What is known of a message's octets, for all Messages over them: ``body_start`` is the offset of the first
    body octet, or the length where there is no body."""

    __slots__ = ("_fields", "_raw", "_tree", "body_start", "names", "places")

    def __init__(self, raw: bytes | mmap) -> None:
        end = raw.find(b"\r\n\r\n")
        self.body_start = 2 if raw[:2] == b"\r\n" else end + 4 if end >= 0 else len(raw)
        self._raw = raw
        self._fields: tuple[Field, ...] | None = None
        self._tree: Part | None = None
        # Filled with ``fields``: the names in lower case, and where each field begins and ends.
        self.names: list[str] = []
        self.places: list[tuple[int, int]] = []

    @property
    def fields(self) -> tuple[Field, ...]:
        """Every field, in order."""
        if self._fields is None:
            found = list(_matches(self._raw[: self.body_start]))
            fields = tuple([_field(match) for match in found])
            self.places = [match.span() for match in found]
            self.names = [field.name.lower() for field in fields]
            self._fields = fields  # last: checks look at one message side by side
        return self._fields

    @property
    def tree(self) -> Part:
        """The MIME tree."""
        if self._tree is None:
            self._tree = parse(self._raw)
        return self._tree


class Message:
    """A message as received. ``raw`` is the whole of it, in memory or mapped from a spool file.

    ``prepend`` and ``without`` give a new Message over the same octets; the body is never copied or changed.
    """

    __slots__ = ("_dropped", "_head", "prefix", "raw")

    def __init__(
        self,
        raw: bytes | mmap,
        *,
        prefix: bytes = b"",
        dropped: frozenset[int] = frozenset(),
        head: _Head | None = None,
    ) -> None:
        self.raw = raw
        self.prefix = prefix
        self._dropped = dropped
        self._head = head or _Head(raw)

    @property
    def body_start(self) -> int:
        """The offset in ``raw`` of the first body octet, or its length where there is no body."""
        return self._head.body_start

    @property
    def fields(self) -> tuple[Field, ...]:
        """The header fields in order, without those dropped; what was prepended is not among them."""
        if not self._dropped:
            return self._head.fields
        return tuple(f for n, f in enumerate(self._head.fields) if n not in self._dropped)

    def get_all(self, name: str) -> list[Field]:
        """Every field of this name, case ignored, top first."""
        wanted, head = name.lower(), self._head
        fields = head.fields
        if wanted not in head.names:
            return []
        return [fields[n] for n, each in enumerate(head.names) if each == wanted and n not in self._dropped]

    def get(self, name: str) -> str:
        """The unfolded body of the first field of this name, ``""`` if there is none."""
        found = self.get_all(name)
        return found[0].value if found else ""

    @property
    def tree(self) -> Part:
        """The MIME tree of ``raw``; what one check has read of it is ready for the next."""
        return self._head.tree

    @property
    def header(self) -> bytes:
        """The header section as it will be passed on, blank line included."""
        if not self._dropped:
            return self.prefix + self.raw[: self.body_start]
        kept, at = [self.prefix], 0
        for n in sorted(self._dropped):  # cut out, so that lines which are no fields stay where they are
            start, end = self._head.places[n]
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
        return Message(self.raw, prefix=b"".join(fields) + self.prefix, dropped=self._dropped, head=self._head)

    def without(self, fields: Iterable[Field]) -> Message:
        """Without these fields, compared by identity with those in ``fields``."""
        gone = {id(f) for f in fields}
        if not gone:
            return self
        dropped = {n for n, f in enumerate(self._head.fields) if id(f) in gone}
        return Message(self.raw, prefix=self.prefix, dropped=self._dropped | dropped, head=self._head)


def split_fields(header: bytes) -> list[Field]:
    """The fields of a header section; a line that is no field is skipped."""
    return [_field(match) for match in _matches(header)]


def _matches(header: bytes) -> Iterator[re.Match[bytes]]:
    end = len(header) - 2 if header.endswith(b"\r\n\r\n") else len(header)
    return _FIELD.finditer(header, 0, end)


def _field(match: re.Match[bytes]) -> Field:
    return Field(match[1].decode("ascii"), match[0])
