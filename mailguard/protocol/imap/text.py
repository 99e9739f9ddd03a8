"""Strings in IMAP's clothes: quoted where they can be, literals where they must be (RFC 9051 §4.3)."""

from __future__ import annotations

import re

_LITERAL = re.compile(rb"[\x00\r\n\x80-\xff]")
_ESCAPED = re.compile(rb'(["\\])')
_NOT_ATOM = re.compile(rb'[\x00-\x20(){%*"\\\]\x7f-\xff]')


def quoted(value: bytes) -> bytes:
    """A quoted string, or a literal where a quoted string cannot hold it."""
    if _LITERAL.search(value):
        value = value.replace(b"\0", b"\x80")
        return b"{%d}\r\n%b" % (len(value), value)
    if b'"' in value or b"\\" in value:
        value = _ESCAPED.sub(rb"\\\1", value)
    return b'"%b"' % value


def nstring(value: bytes | None) -> bytes:
    """A string, or NIL for None."""
    return b"NIL" if value is None else quoted(value)


def literal(value: bytes) -> bytes:
    """A literal, whatever it holds."""
    return b"{%d}\r\n%b" % (len(value), value)


def astring(value: bytes) -> bytes:
    """An atom where the value is one, else a quoted string or a literal."""
    if not value or _NOT_ATOM.search(value) or value.upper() == b"NIL":
        return quoted(value)
    return value


def utf8_quoted(value: str) -> bytes:
    """A quoted string that may hold UTF-8, for clients that enabled it (RFC 6855 §3, RFC 9051 §4.3)."""
    data = value.encode("utf-8", "replace")
    if re.search(rb"[\x00\r\n]", data):
        return literal(data)
    return b'"%b"' % _ESCAPED.sub(rb"\\\1", data)
