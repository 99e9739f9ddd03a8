"""A message's MIME tree over its own octets: offsets first, everything else when asked for (RFC 2045, RFC 2046).

Nothing here raises on broken MIME: what cannot be understood is ``text/plain``, as RFC 2045 §5.2 says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

from mailguard.model.charset import decode_header, decode_text, decode_transfer, decode_words

MAX_DEPTH = 100
"""Levels of nesting that are followed; deeper parts are leaves."""

MAX_PARTS = 10_000
"""Boundary lines that are looked at in one message, so that hostile mail costs no more than honest mail."""

# No two neighbouring repeats here can match the same octets: hostile headers cost no more than others.
_FIELD = re.compile(rb"^([^\r\n:\t ][^\r\n:]*):([^\n]*(?:\n[ \t][^\n]*)*)", re.M)
_TYPE = re.compile(rb'\s*([^\s/;()"]+)\s*/\s*([^\s;()"]+)\s*')
_PARAM = re.compile(rb';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|([^;\s]*))', re.S)
_ESCAPE = re.compile(rb"\\(.)", re.S)
_CONTINUED = re.compile(rb"(.+?)\*(\d{1,3})(\*?)\Z", re.S)
_BOUNDARY_CHARS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789'()+_,-./:=?")

Params = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class ContentType:
    """A Content-Type as written; ``kind`` is ``type/subtype`` in lower case."""

    type: bytes
    subtype: bytes
    params: Params = ()

    @property
    def kind(self) -> str:
        """``type/subtype`` in lower case, to compare with."""
        return f"{self.type.decode('ascii', 'replace')}/{self.subtype.decode('ascii', 'replace')}".lower()

    def param(self, name: bytes) -> bytes:
        """The value of a parameter, its name in lower case; ``b""`` if there is none."""
        return next((v for k, v in self.params if k.lower() == name), b"")


TEXT = ContentType(b"text", b"plain", ((b"charset", b"us-ascii"),))
MESSAGE = ContentType(b"message", b"rfc822")


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
        self._children: tuple[Part, ...] | None = None

    @property
    def fields(self) -> dict[bytes, list[bytes]]:
        """Header field bodies as written, folds included, by name in lower case."""
        if self._fields is None:
            fields: dict[bytes, list[bytes]] = {}
            self._fields = fields
            for name, value in _FIELD.findall(self.raw[self.start : self.body_start]):
                fields.setdefault(name.rstrip().lower(), []).append(value)
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
        params = {k.lower(): v for k, v in (*self.content_type.params, *self.disposition[1])}
        for name in (b"filename*", b"filename", b"name*", b"name"):
            if value := params.get(name):
                return _extended(value) if name.endswith(b"*") else decode_header(value)
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


def parse_content_type(value: bytes) -> ContentType | None:
    """A Content-Type's value; None where it names no type and subtype."""
    if b"(" in value:
        value = _without_comments(value)
    match = _TYPE.match(value)
    if not match:
        return None
    return ContentType(match[1], match[2], _params(value, match.end()))


def parse_parameters(value: bytes) -> tuple[bytes, Params]:
    """``word; name=value...`` as in Content-Disposition: the word and its parameters."""
    if b"(" in value:
        value = _without_comments(value)
    word = value.split(b";", 1)[0]
    return word.strip(), _params(value, len(word))


def _params(value: bytes, at: int) -> Params:
    if at >= len(value):
        return ()
    found: list[tuple[bytes, bytes]] = []
    continued = False
    for name, quoted, plain in _PARAM.findall(value, at):
        found.append((name, _ESCAPE.sub(rb"\1", quoted) if b"\\" in quoted else quoted or plain))
        continued = continued or b"*" in name
    return _join_continued(found) if continued else tuple(found)


def _join_continued(found: list[tuple[bytes, bytes]]) -> Params:
    """Sections ``name*0 name*1*`` put together as ``name`` or ``name*`` (RFC 2231 §3, §4)."""
    sections: dict[bytes, list[tuple[int, bool, bytes]]] = {}
    out: list[tuple[bytes, bytes]] = []
    for name, value in found:
        if match := _CONTINUED.match(name):
            sections.setdefault(match[1], []).append((int(match[2]), bool(match[3]), value))
        else:
            out.append((name, value))
    for name, parts in sections.items():
        parts.sort(key=lambda part: part[0])
        extended = any(part[1] for part in parts)
        joined = b"".join(v if e or not extended else v.replace(b"%", b"%25") for _, e, v in parts)
        out.append((name + b"*" if extended else name, joined))
    return tuple(out)


def _extended(value: bytes) -> str:
    charset, quote, rest = value.partition(b"'")
    text = rest.partition(b"'")[2] if quote else value
    data = re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), text)
    return decode_words(decode_text(data, charset.decode("ascii", "replace") if quote and charset else "utf-8"))


def _without_comments(value: bytes) -> bytes:
    out, depth, quoted, skip = bytearray(), 0, False, False
    for octet in value:
        if skip:
            skip = False
        elif octet == 0x5C:
            skip = True
        elif octet == 0x22 and not depth:
            quoted = not quoted
        elif octet == 0x28 and not quoted:
            depth += 1
        elif octet == 0x29 and depth:
            depth -= 1
            continue
        if not depth:
            out.append(octet)
    return bytes(out)
