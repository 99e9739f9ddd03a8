"""A message's MIME tree over its own octets: offsets first, everything else when asked for (RFC 2045, RFC 2046).

Nothing here raises on broken MIME: what cannot be understood is ``text/plain``, as RFC 2045 §5.2 says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from mmap import mmap

from mailguard.model.charset import decode_header, decode_text, decode_transfer, whole_units
from mailguard.model.contenttype import (
    MESSAGE,
    TEXT,
    ContentType,
    Params,
    extended,
    parse_content_type,
    parse_parameters,
)

_PIECE = 1 << 20  # octets

MAX_DEPTH = 100
"""Levels of nesting that are followed; deeper parts are leaves."""

MAX_PARTS = 10_000
"""Boundary lines that are looked at in one message, so that hostile mail costs no more than honest mail."""

# No two neighbouring repeats here can match the same octets: hostile headers cost no more than others.
_FIELD = re.compile(rb"^([^\r\n:\t ][^\r\n:]*):([^\n]*(?:\n[ \t][^\n]*)*)", re.M)
_BOUNDARY_CHARS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'()+_,-./:=?")


class _Allowance:
    """How many more boundary lines may be looked at."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


class Part:
    """One node: header fields ``raw[start:body_start]``, body ``raw[body_start:end]``.

    ``children`` are the parts of a multipart, or the one message inside a message/rfc822.
    """

    __slots__ = (
        "_allowance",
        "_children",
        "_default",
        "_depth",
        "_fields",
        "_name",
        "_type",
        "body_start",
        "end",
        "raw",
        "start",
    )

    def __init__(self, raw: bytes | mmap, start: int, end: int, allowance: _Allowance, depth: int,
                 default: ContentType) -> None:  # fmt: skip
        self.raw = raw
        self.start = start
        self.end = end
        self.body_start = _body_start(raw, start, end)
        self._allowance = allowance
        self._depth = depth
        self._default = default
        self._fields: dict[bytes, list[bytes]] | None = None
        self._type: ContentType | None = None
        self._name: str | None = None
        self._children: tuple[Part, ...] | None = None

    @property
    def fields(self) -> dict[bytes, list[bytes]]:
        """Header field bodies as written, folds included, by name in lower case."""
        if self._fields is None:
            fields: dict[bytes, list[bytes]] = {}
            for name, value in _FIELD.findall(self.raw[self.start : self.body_start]):
                fields.setdefault(name.rstrip().lower(), []).append(value)
            self._fields = fields  # last: checks look at one message side by side
        return self._fields

    def first(self, name: bytes) -> bytes:
        """The first field of this name (lower case), unfolded and stripped; ``b""`` if there is none."""
        found = self.fields.get(name)
        return unfold(found[0]) if found else b""

    @property
    def content_type(self) -> ContentType:
        """The declared type, or the default of the place (RFC 2045 §5.2, RFC 2046 §5.1.5)."""
        if self._type is None:
            value = self.first(b"content-type")
            self._type = (parse_content_type(value) if value else None) or self._default
        return self._type

    @property
    def kind(self) -> str:
        """``type/subtype`` in lower case."""
        return self.content_type.kind

    @property
    def encoding(self) -> str:
        """The Content-Transfer-Encoding in lower case, ``7bit`` if none is declared."""
        return (
            self.first(b"content-transfer-encoding").split(b";")[0].strip().decode("ascii", "replace").lower() or "7bit"
        )

    @property
    def disposition(self) -> tuple[bytes, Params]:
        """The Content-Disposition and its parameters; ``b""`` if there is none (RFC 2183)."""
        value = self.first(b"content-disposition")
        return parse_parameters(value) if value else (b"", ())

    @property
    def filename(self) -> str:
        """The file name an attachment gives itself, decoded; ``""`` if none (RFC 2183 §2.3, RFC 2231)."""
        if self._name is None:
            self._name = self._find_name()
        return self._name

    def _find_name(self) -> str:
        fields = self.first(b"content-type") + self.first(b"content-disposition")
        if b"name" not in fields.lower():
            return ""
        params = {k.lower(): v for k, v in (*self.content_type.params, *self.disposition[1])}
        for name in (b"filename*", b"filename", b"name*", b"name"):
            if value := params.get(name):
                return extended(value) if name.endswith(b"*") else decode_header(value)
        return ""

    @property
    def children(self) -> tuple[Part, ...]:
        """The parts below, in order."""
        if self._children is None:
            self._children = tuple(self._find_children()) if self._depth < MAX_DEPTH else ()
        return self._children

    def empty_child(self) -> Part:
        """The text without a word that stands for the parts of a multipart that has none."""
        return self._child(self.end, self.end, TEXT)

    def _find_children(self) -> Iterator[Part]:
        major = self.content_type.type.lower()
        if major == b"message" and self.content_type.subtype.lower() in (b"rfc822", b"global"):
            yield self._child(self.body_start, self.end, TEXT)
        elif major == b"multipart" and (boundary := self.content_type.param(b"boundary")):
            default = MESSAGE if self.content_type.subtype.lower() == b"digest" else TEXT
            for start, end in self._spans(b"\n--" + boundary):
                yield self._child(start, end, default)

    def _child(self, start: int, end: int, default: ContentType) -> Part:
        return Part(self.raw, start, end, self._allowance, self._depth + 1, default)

    def _spans(self, delimiter: bytes) -> Iterator[tuple[int, int]]:
        """Where each body part begins and ends (RFC 2046 §5.1.1): the line end before a boundary belongs to it."""
        raw, stop, at = self.raw, self.end, self.body_start - 1
        start = -1
        while self._allowance.left > 0:
            at = raw.find(delimiter, at, stop)
            if at < 0:
                break
            self._allowance.left -= 1
            after = at + len(delimiter)
            tail = raw[after : min(after + 3, stop)]
            last = tail[:2] == b"--" and (len(tail) < 3 or tail[2] not in _BOUNDARY_CHARS)
            if not last and tail and tail[0] in _BOUNDARY_CHARS:
                at += 1  # a longer boundary that begins like ours
                continue
            if start >= 0:
                yield start, max(start, at - 1 if raw[at - 1] == 13 else at)
            if last:
                return
            at = raw.find(b"\n", after, stop)
            start = at + 1 if at >= 0 else stop
            if at < 0:
                break
        if start >= 0:
            yield start, stop

    def walk(self) -> Iterator[Part]:
        """This part and all below it, depth first."""
        todo = [self]
        while todo:
            part = todo.pop()
            yield part
            todo.extend(reversed(part.children))

    @property
    def header(self) -> bytes:
        """The header section with the blank line that ends it."""
        return self.raw[self.start : self.body_start]

    @property
    def body(self) -> bytes:
        """The body as it stands, still transfer-encoded."""
        return self.raw[self.body_start : self.end]

    def content(self, limit: int | None = None) -> bytes:
        """The body without its transfer encoding; of at most the first ``limit`` octets of it."""
        end = self.end if limit is None else min(self.end, self.body_start + limit)
        return decode_transfer(self.raw[self.body_start : end], self.encoding)

    def pieces(self) -> Iterator[bytes]:
        """What ``content`` gives, piece by piece: of a large part in a mapped message never all at once."""
        encoding, left = self.encoding, b""
        for at in range(self.body_start, self.end, _PIECE):
            data = left + self.raw[at : min(at + _PIECE, self.end)]
            last = at + _PIECE >= self.end or (encoding == "base64" and b"=" in data)
            cut = len(data) if last else whole_units(data, encoding)
            left = data[cut:]
            yield decode_transfer(data[:cut], encoding)
            if encoding == "base64" and last:
                return

    @property
    def charset(self) -> str:
        """The declared charset, ``us-ascii`` if none."""
        return self.content_type.param(b"charset").decode("ascii", "replace") or "us-ascii"

    def text(self, limit: int | None = None) -> str:
        """The decoded text of a text part."""
        return decode_text(self.content(limit), self.charset)


def parse(raw: bytes | mmap) -> Part:
    """The tree of a whole message; costs nothing before something is asked of it."""
    return Part(raw, 0, len(raw), _Allowance(MAX_PARTS), 0, TEXT)


def _body_start(raw: bytes | mmap, start: int, end: int) -> int:
    head = raw[start : start + 2]
    if head == b"\r\n" or head[:1] == b"\n":
        return min(end, start + (2 if head == b"\r\n" else 1))
    crlf = raw.find(b"\n\r\n", start, end)
    bare = raw.find(b"\n\n", start, crlf if crlf >= 0 else end)
    if bare >= 0:
        return bare + 2
    return crlf + 3 if crlf >= 0 else end


def unfold(value: bytes) -> bytes:
    """A field body on one line, stripped (RFC 5322 §2.2.3)."""
    return value.replace(b"\r\n", b"").replace(b"\n", b"").strip() if b"\n" in value else value.strip()
