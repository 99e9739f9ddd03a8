"""BODY and BODYSTRUCTURE of a MIME tree (RFC 9051 §7.5.2)."""

from __future__ import annotations

import re
from mmap import mmap

from mailguard.model.contenttype import TEXT, ContentType, Params, parse_parameters
from mailguard.model.mime import Part
from mailguard.protocol.imap.envelope import print_envelope
from mailguard.protocol.imap.text import quoted

# A multipart without a part must not be sent as one; it is shown as an empty text.
_EMPTY = b'"text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0'
_WORD = re.compile(rb"[^\s,;()]+")


def print_structures(part: Part) -> tuple[bytes, bytes]:
    """BODYSTRUCTURE and BODY of a part and all below it."""
    kind = part.content_type
    if kind.type.lower() == b"multipart" and kind.param(b"boundary"):
        return _multipart(part, kind)
    basic = b"%b %b %b %b %b %b %d" % (
        quoted(kind.type),
        quoted(kind.subtype),
        _print_params(kind.params),
        _field(part, b"content-id"),
        _field(part, b"content-description"),
        _encoding(part),
        part.end - part.body_start,
    )
    extension = b"%b %b" % (_field(part, b"content-md5"), _tail(part))
    if kind.type.lower() == b"text":
        basic += b" %d" % count_lines(part.raw, part.body_start, part.end)
    elif part.children:
        inner = part.children[0]
        lines = count_lines(part.raw, part.body_start, part.end)
        full, short = print_structures(inner)
        basic += b" " + print_envelope(inner.fields)
        return b"(%b %b %d %b)" % (basic, full, lines, extension), b"(%b %b %d)" % (basic, short, lines)
    return b"(%b %b)" % (basic, extension), b"(%b)" % basic


def _multipart(part: Part, kind: ContentType) -> tuple[bytes, bytes]:
    pairs = [print_structures(child) for child in part.children] or [
        (b"(%b NIL NIL NIL NIL)" % _EMPTY, b"(%b)" % _EMPTY)
    ]
    subtype = quoted(kind.subtype)
    full, short = b"".join([pair[0] for pair in pairs]), b"".join([pair[1] for pair in pairs])
    return b"(%b %b %b %b)" % (full, subtype, _print_params(kind.params), _tail(part)), b"(%b %b)" % (short, subtype)


def _tail(part: Part) -> bytes:
    """Disposition, language and location, the extension data that both kinds end with."""
    fields = part.fields
    if b"content-disposition" not in fields and b"content-language" not in fields:
        return b"NIL NIL " + _field(part, b"content-location")
    word, params = part.disposition
    disposition = b"(%b %b)" % (quoted(word), _print_params(params)) if word else b"NIL"
    languages = b" ".join([quoted(w) for w in _WORD.findall(part.first(b"content-language"))])
    language = b"(%b)" % languages if languages else b"NIL"
    return b"%b %b %b" % (disposition, language, _field(part, b"content-location"))


def _field(part: Part, name: bytes) -> bytes:
    return quoted(part.first(name)) if name in part.fields else b"NIL"


def _encoding(part: Part) -> bytes:
    """As declared; a declaration of nothing is ``7bit``."""
    value = part.first(b"content-transfer-encoding")
    word = parse_parameters(value)[0] if value else b""
    return quoted(word) if word else b'"7bit"'


def _print_params(params: Params) -> bytes:
    if params is TEXT.params:
        return b'("charset" "us-ascii")'
    return b"(%b)" % b" ".join([b"%b %b" % (quoted(k), quoted(v)) for k, v in params]) if params else b"NIL"


def count_lines(raw: bytes | mmap, start: int, end: int) -> int:
    """Line ends in ``raw[start:end]``."""
    return raw.count(b"\n", start, end) if isinstance(raw, bytes) else raw[start:end].count(b"\n")
