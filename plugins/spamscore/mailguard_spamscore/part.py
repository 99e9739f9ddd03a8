"""A bounded, quick look at the MIME tree of a message: header fields and decoded leaf parts, all bytes.

Nothing here builds an object model: a filter reads every message once, in about a tenth of what the standard
library's parser takes, and must not be made slow by a message built to be slow. Every loop has a bound.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass, field

MAX_HEAD = 64 * 1024
MAX_PARTS = 64
MAX_DEPTH = 8
MAX_LEAF = 96 * 1024

_FIELD = re.compile(rb"^([!-9;-~]{1,80})[ \t]*:[ \t]*(.*(?:\n[ \t].*)*)", re.M)
_FOLD = re.compile(rb"\n[ \t]+")
_PARAM = re.compile(rb';\s*([a-z0-9*-]{1,30})\s*=\s*(?:"([^"]{0,300})"|([^\s;"]{1,300}))', re.I)
_NOT_BASE64 = bytes(
    c for c in range(256) if c not in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
)


@dataclass(slots=True)
class Part:
    """One node of the tree: `kind` is type/subtype in lower case, `body` the still encoded bytes (capped)."""

    kind: bytes
    params: dict[bytes, bytes]
    encoding: bytes
    disposition: bytes
    filename: bytes
    body: bytes
    size: int
    depth: int
    plain: bool = False


@dataclass(slots=True)
class Tree:
    """Header fields (names in lower case, values unfolded) and the parts in order, multiparts included."""

    fields: list[tuple[bytes, bytes]]
    parts: list[Part] = field(default_factory=list)
    truncated: bool = False
    size: int = 0
    known: dict[bytes, bytes] = field(default_factory=dict)

    def first(self, name: bytes) -> bytes:
        """The first field called `name`, or b"" when there is none."""
        if not self.known and self.fields:
            self.known.update(reversed(self.fields))
        return self.known.get(name, b"")


def fields_of(head: bytes) -> list[tuple[bytes, bytes]]:
    """Split a header section into (lower-case name, unfolded value) pairs; lines that are no fields are skipped."""
    head = head[:MAX_HEAD].replace(b"\r\n", b"\n")
    return [(name.lower(), _FOLD.sub(b" ", value) if b"\n" in value else value) for name, value in _FIELD.findall(head)]


def blank_line(raw: bytes, start: int, end: int) -> tuple[int, int] | None:
    """Where the header ends and where the body begins: the first empty line between two places."""
    wide = raw.find(b"\n\r\n", start, end)
    bare = raw.find(b"\n\n", start, end if wide < 0 else wide + 1)
    at = bare if bare >= 0 else wide
    if at < 0:
        return None
    return (at - 1 if at > start and raw[at - 1] == 13 else at), at + (2 if bare >= 0 else 3)


def params_of(value: bytes) -> dict[bytes, bytes]:
    """The parameters of a structured field; RFC 2231 pieces keep the first piece only."""
    return {
        name.lower().split(b"*")[0]: quoted or bare for name, quoted, bare in reversed(_PARAM.findall(value[:2000]))
    }


def decode(body: bytes, encoding: bytes) -> bytes:
    """Undo base64 or quoted-printable leniently; anything else is returned as it is. Never raises."""
    if encoding == b"base64":
        clean = body.translate(None, _NOT_BASE64)
        left = len(clean) % 4
        return binascii.a2b_base64(clean[:-1] if left == 1 else clean + b"=" * (-left % 4))
    if encoding == b"quoted-printable":
        return binascii.a2b_qp(body)
    return body


def walk(raw: bytes) -> Tree:
    """Look at a whole message. Bounds: 64 KiB of header, 64 parts, depth 8, 96 KiB of each leaf."""
    whole = min(len(raw), MAX_HEAD)
    head_end, body_start = blank_line(raw, 0, MAX_HEAD) or (whole, whole)
    tree = Tree(fields_of(raw[:head_end]), size=len(raw))
    todo = [(tree.fields, body_start, len(raw), 0)]
    while todo:
        if len(tree.parts) >= MAX_PARTS:
            tree.truncated = True
            break
        fields, start, end, depth = todo.pop()
        part = _part(fields, raw, start, end, depth)
        tree.parts.append(part)
        if depth >= MAX_DEPTH:
            continue
        if part.kind.startswith(b"multipart/"):
            todo += reversed(_children(raw, part.params.get(b"boundary", b""), start, end, depth + 1))
        elif part.kind == b"message/rfc822" and part.encoding not in (b"base64", b"quoted-printable"):
            todo.append(_section(raw, start, end, depth + 1))
    return tree


def _part(fields: list[tuple[bytes, bytes]], raw: bytes, start: int, end: int, depth: int) -> Part:
    own: dict[bytes, bytes] = {}
    for name, value in fields:
        if name.startswith(b"content-"):
            own.setdefault(name, value)
    ctype = own.get(b"content-type", b"")
    disposition = own.get(b"content-disposition", b"")
    params = params_of(ctype) if b";" in ctype else {}
    filename = params.get(b"name", b"")
    if disposition:
        filename = params_of(disposition).get(b"filename", filename)
    kind = ctype.split(b";", 1)[0].strip().lower()[:80]
    multi = kind.startswith(b"multipart/")
    return Part(
        kind=kind or b"text/plain",
        params=params,
        encoding=own.get(b"content-transfer-encoding", b"").strip().lower()[:40],
        disposition=disposition.split(b";", 1)[0].strip().lower()[:20],
        filename=filename,
        body=b"" if multi else raw[start : min(end, start + MAX_LEAF)],
        size=end - start,
        depth=depth,
    )


def _children(
    raw: bytes, boundary: bytes, start: int, end: int, depth: int
) -> list[tuple[list[tuple[bytes, bytes]], int, int, int]]:
    if not boundary:
        return []
    mark = b"\n--" + boundary
    out: list[tuple[list[tuple[bytes, bytes]], int, int, int]] = []
    at = raw.find(mark, max(0, start - 1), end)
    while at >= 0 and len(out) < MAX_PARTS:
        after = at + len(mark)
        if raw[after : after + 2] == b"--":
            break
        following = raw.find(mark, after, end)
        out.append(_section(raw, after, following if following >= 0 else end, depth))
        at = following
    return out


def _section(raw: bytes, start: int, end: int, depth: int) -> tuple[list[tuple[bytes, bytes]], int, int, int]:
    """The header and body of a part that begins at `start` (just behind its delimiter or its parent's header)."""
    while raw[start : start + 1] in (b" ", b"\t") and start < end:
        start += 1
    if raw.startswith((b"\n\n", b"\n\r\n", b"\r\n\r\n"), start):
        body = start + (4 if raw.startswith(b"\r\n\r\n", start) else 3 if raw.startswith(b"\n\r\n", start) else 2)
        return [], min(body, end), end, depth
    cut = blank_line(raw, start, min(end, start + MAX_HEAD))
    if not cut:
        return fields_of(raw[start:end]), end, end, depth
    return fields_of(raw[start : cut[0]]), cut[1], end, depth
