"""The octets of BODY[...], RFC822 and BINARY[...] (RFC 9051 §6.4.5.1, RFC 3516 §4.3)."""

from __future__ import annotations

import re

from mailguard.model.mime import Part, parse
from mailguard.protocol.imap.fetch import Section
from mailguard.protocol.imap.lexer import CommandError

_KNOWN_ENCODINGS = frozenset(("7bit", "8bit", "binary", "base64", "quoted-printable", ""))
_FIELD = re.compile(rb"^([^\r\n:\t ][^\r\n:]*+):[^\n]*+\n?(?:[ \t][^\n]*+\n?)*+", re.MULTILINE)


def octets(raw: bytes, section: Section, root: Part | None = None) -> bytes | None:
    """What the section holds of a message in CRLF form, ``partial`` applied; None where there is no such part.

    Raises CommandError (NO [UNKNOWN-CTE]) for BINARY of a part in an encoding that is not known.
    """
    if section.kind in ("BINARY", "BINARY.SIZE"):
        found = _decoded(root or parse(raw), section.part)
    elif not section.part and not section.text:
        found = raw
    else:
        found = _text(root or parse(raw), section)
    if found is None or section.partial is None:
        return found
    start, count = section.partial
    return found[start : start + count]


def _text(root: Part, section: Section) -> bytes | None:
    part = find(root, section.part)
    if part is None:
        return None
    if section.text in ("", "MIME"):
        return part.header if section.text else part.body
    if section.part:
        # HEADER and TEXT of a numbered part are those of the message inside it.
        if part.content_type.type.lower() != b"message" or not part.children:
            return None
        part = part.children[0]
    if section.text == "TEXT":
        return part.body
    if section.text == "HEADER":
        return part.header
    return fields(part.header, section.fields, inverted=section.text == "HEADER.FIELDS.NOT")


def find(root: Part, numbers: tuple[int, ...]) -> Part | None:
    """The part with these numbers; a message that is no multipart is its own part 1."""
    part, whole = root, True
    for number in numbers:
        kind = part.content_type
        if not whole and kind.type.lower() == b"message" and part.children:
            part, whole = part.children[0], True
            kind = part.content_type
        if kind.type.lower() == b"multipart" and kind.param(b"boundary"):
            parts = part.children or (part.empty_child(),)  # as BODYSTRUCTURE shows it
            if not 1 <= number <= len(parts):
                return None
            part = parts[number - 1]
        elif number != 1 or not whole:
            return None
        whole = False
    return part


def _decoded(root: Part, numbers: tuple[int, ...]) -> bytes | None:
    part = root if not numbers else find(root, numbers)
    if part is None:
        return None
    if not numbers:
        return part.raw[part.start : part.end]
    kind = part.content_type.type.lower()
    if kind in (b"multipart", b"message"):
        return part.body
    if part.encoding not in _KNOWN_ENCODINGS:
        text = f"the transfer encoding {part.encoding[:40]} is not known"
        raise CommandError(text, status="NO", code="UNKNOWN-CTE")
    return part.content()


def fields(header: bytes, names: tuple[bytes, ...], *, inverted: bool = False) -> bytes:
    """The header fields with these names, or all others, folds and order kept, and the blank line."""
    wanted = {name.lower() for name in names}
    out = [m[0] for m in _FIELD.finditer(header) if (m[1].rstrip(b" \t").lower() in wanted) != inverted]
    return b"".join(out) + b"\r\n"
