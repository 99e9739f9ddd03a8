"""Octets to text: charsets, content transfer encodings and encoded words (RFC 2045 §6, RFC 2047), never raising."""

from __future__ import annotations

import binascii
import codecs
import re
from functools import lru_cache

_WORD = re.compile(r"=\?([^?*\s]+)(?:\*[^?\s]*)?\?([bBqQ])\?([^?\s]*(?:\?[^=?\s][^?\s]*)*)\?=")
_BETWEEN = re.compile(r"(\?=)\s+(?==\?[^?\s]+\?[bBqQ]\?)")
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")
_TRAILING = re.compile(rb"(?<![ \t])[ \t]+(?=\r?\n|\Z)")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")

# Codecs that name no charset, or whose decoding costs more than it is worth on hostile input.
_REFUSED = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"})
_ALIASES = {"us-ascii": "utf-8", "ascii": "utf-8", "x-unknown": "utf-8", "unknown-8bit": "utf-8",
            "iso-8859-1": "cp1252", "latin1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030",
            "ks_c_5601-1987": "cp949", "euc-kr": "cp949", "iso-8859-8-i": "iso-8859-8", "unicode-1-1-utf-7": "utf-7",
            "utf8mb4": "utf-8", "x-sjis": "cp932", "shift_jis": "cp932"}  # fmt: skip


@lru_cache(maxsize=256)
def _codec(charset: str) -> str:
    name = charset.strip().strip("\"'").lower()
    name = _ALIASES.get(name, name)
    try:
        found = codecs.lookup(name).name.replace("-", "_")
        b"a".decode(name)
    except (LookupError, ValueError):
        return ""
    return "" if found in _REFUSED else name


def is_known(charset: str) -> bool:
    """Whether text in this charset can be decoded here."""
    return bool(_codec(charset))


def decode_text(data: bytes, charset: str = "utf-8") -> str:
    """The text; octets that do not fit the charset become U+FFFD, an unknown charset is read as UTF-8, then as
    Windows-1252."""
    name = _codec(charset)
    if not name or name == "utf-8":
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("utf-8", "replace") if name and charset.lower() == "utf-8" else _western(data)
    try:
        return data.decode(name, "replace")
    except (UnicodeError, ValueError):
        return _western(data)


def _western(data: bytes) -> str:
    return data.decode("cp1252", "replace")


def decode_words(text: str) -> str:
    """The text with its encoded words decoded (RFC 2047 §6.2); neighbours in one charset are joined as octets first."""
    if "=?" not in text:
        return text
    out: list[str] = []
    at, pending, pending_charset = 0, b"", ""
    text = _BETWEEN.sub(r"\1", text)
    for match in _WORD.finditer(text):
        charset = match[1].lower()
        if match.start() != at or charset != pending_charset:
            out.append(decode_text(pending, pending_charset))
            out.append(text[at : match.start()])
            pending = b""
        pending += _word_octets(match[2], match[3])
        pending_charset, at = charset, match.end()
    out.append(decode_text(pending, pending_charset or "utf-8"))
    out.append(text[at:])
    return "".join(out)


def _word_octets(encoding: str, text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    if encoding in "bB":
        return decode_base64(data)
    return _HEX.sub(_from_hex, data.replace(b"_", b" "))


def _from_hex(match: re.Match[bytes]) -> bytes:
    return binascii.unhexlify(match[1])


def decode_header(value: bytes) -> str:
    """A raw field body as people read it: UTF-8 or Windows-1252 octets, then encoded words."""
    return decode_words(decode_text(value, "us-ascii"))


def decode_base64(data: bytes) -> bytes:
    """What can be decoded; characters outside the alphabet are skipped, the end is padded or cut (RFC 2045 §6.8)."""
    try:
        return binascii.a2b_base64(data)
    except binascii.Error:
        data = _NOT_BASE64.sub(b"", data.split(b"=", 1)[0])
    data = data[: len(data) - 1] if len(data) % 4 == 1 else data
    return binascii.a2b_base64(data + b"=" * (-len(data) % 4))


def decode_quoted_printable(data: bytes) -> bytes:
    """What was encoded; a broken escape is kept as it stands (RFC 2045 §6.7)."""
    data = _TRAILING.sub(b"", data)  # added on the way, not by the sender
    return binascii.a2b_qp(data) if b"=" in data else data


def whole_units(data: bytes, encoding: str) -> int:
    """How many octets from the start can be decoded without what follows them."""
    if encoding == "base64":
        left = len(_NOT_BASE64.sub(b"", data)) % 4
        at = len(data)
        while left:
            at -= 1
            left -= not _NOT_BASE64.match(data, at)
        return at
    if encoding == "quoted-printable":
        return data.rfind(b"\n") + 1
    return len(data)


def decode_transfer(data: bytes, encoding: str) -> bytes:
    """The body without its Content-Transfer-Encoding; an unknown one leaves it as it is."""
    match encoding.strip().lower():
        case "base64":
            return decode_base64(data)
        case "quoted-printable":
            return decode_quoted_printable(data)
        case _:
            return data
