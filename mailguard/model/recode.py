"""Binary parts of a message made text again, for readers that can take no NUL (RFC 3516 §5)."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from mailguard.model.mime import Part, parse

_ENCODING = re.compile(rb"^(content-transfer-encoding[ \t]*:\s*)binary\b", re.I | re.M)


def as_text(raw: bytes) -> bytes:
    """The message with every part that says it is ``binary`` and holds a NUL in base64; the others as they are."""
    if b"\0" not in raw:
        return raw
    out, at = [], 0
    for part in _binary(parse(raw)):
        header = _ENCODING.sub(rb"\1base64", part.raw[part.start : part.body_start])
        body = base64.encodebytes(part.raw[part.body_start : part.end]).replace(b"\n", b"\r\n")
        out += [raw[at : part.start], header, body.removesuffix(b"\r\n") if part.end < len(raw) else body]
        at = part.end
    return b"".join([*out, raw[at:]])


def _binary(part: Part) -> Iterator[Part]:
    """The leaves that are binary, in order."""
    if part.children:
        for child in part.children:
            yield from _binary(child)
    elif part.encoding == "binary" and b"\0" in part.raw[part.body_start : part.end]:
        yield part
