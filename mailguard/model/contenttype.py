"""Content-Type, Content-Disposition and their parameters (RFC 2045 §5, RFC 2231). Nothing here raises."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailguard.model.charset import decode_text, decode_words

# No two neighbouring repeats here can match the same octets: hostile headers cost no more than others.
_TYPE = re.compile(rb'\s*([^\s/;()"]+)\s*/\s*([^\s;()"]+)\s*')
_PARAM = re.compile(rb';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|([^;\s]*))', re.S)
_ESCAPE = re.compile(rb"\\(.)", re.S)
_CONTINUED = re.compile(rb"(.+?)\*(\d{1,3})(\*?)\Z", re.S)

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


def extended(value: bytes) -> str:
    """The text of a parameter ``name*``: its charset, language and percent-encoded octets (RFC 2231 §4)."""
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
