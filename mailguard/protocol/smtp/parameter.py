"""Parameters of MAIL and RCPT, and the small grammars in them: xtext, base64, dates (RFC 3461, RFC 4865, RFC 4954)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import datetime

from mailguard.model.reply import Reply
from mailguard.protocol.wire import ProtocolError


def syntax_error(text: str, *, code: int = 501, status: str = "5.5.4") -> ProtocolError:
    """A refusal of one command."""
    return ProtocolError(text, reply=Reply.of(code, status, text))


def notify(value: str) -> frozenset[str]:
    """NOTIFY: ``NEVER`` alone, or some of the others. Raises ProtocolError."""
    words = frozenset(value.upper().split(","))
    if not words <= {"NEVER", "SUCCESS", "FAILURE", "DELAY"} or ("NEVER" in words and len(words) > 1):
        raise syntax_error("NOTIFY must be NEVER or of SUCCESS,FAILURE,DELAY")
    return words


def orcpt(value: str) -> str:
    """ORCPT: a type and an address in xtext. Raises ProtocolError."""
    kind, semicolon, text = value.partition(";")
    if not semicolon or not kind or len(value) > 500:
        raise syntax_error("ORCPT must be a type and an address, at most 500 octets")
    if kind.lower() != "utf-8":
        _xtext("ORCPT", text)
    return value


def _xtext(key: str, value: str) -> str:
    """Checks xtext: printable ASCII, ``+`` only before two upper-case hex digits (RFC 3461 §4)."""
    parts = value.split("+")
    good = value.isascii() and value.isprintable() and "=" not in value
    if not good or any(len(p) < 2 or not set(p[:2]) <= set("0123456789ABCDEF") for p in parts[1:]):
        raise syntax_error(f"{key} is not xtext")
    return value


def _envid(key: str, value: str) -> str:
    if len(value) > 100:
        raise syntax_error("ENVID may have 100 octets")
    return _xtext(key, value)


def _number(key: str, value: str) -> int:
    if not value.isascii() or not value.isdigit() or len(value) > 20:
        raise syntax_error(f"{key} needs a number")
    return int(value)


def _flag(key: str, value: str) -> bool:
    if value:
        raise syntax_error(f"{key} takes no value")
    return True


def _body(_key: str, value: str) -> bool:
    if value.upper() not in ("7BIT", "8BITMIME"):
        raise syntax_error("BODY must be 7BIT or 8BITMIME")
    return value.upper() == "8BITMIME"


def _ret(_key: str, value: str) -> str:
    if value.upper() not in ("FULL", "HDRS"):
        raise syntax_error("RET must be FULL or HDRS")
    return value.upper()


def _date(key: str, value: str) -> int:
    try:
        when = datetime.fromisoformat(value.upper().replace("Z", "+00:00"))
        return int(when.timestamp()) if when.tzinfo else int(datetime.fromisoformat(value + "+00:00").timestamp())
    except (ValueError, OverflowError):
        raise syntax_error(f"{key} needs a date such as 2026-12-31T12:00:00Z") from None


MAIL_PARAMETERS: dict[str, tuple[str, Callable[[str, str], object]]] = {
    "SIZE": ("size", _number),
    "BODY": ("body_8bit", _body),
    "SMTPUTF8": ("smtputf8", _flag),
    "REQUIRETLS": ("require_tls", _flag),
    "RET": ("ret", _ret),
    "ENVID": ("envid", _envid),
    "AUTH": ("auth", _xtext),
    "HOLDFOR": ("hold_for", _number),
    "HOLDUNTIL": ("hold_until", _date),
}
"""Parameter of MAIL -> field of ``command.Mail`` and the reader of its value."""


def decode_base64(text: str) -> bytes:
    """A base64 response; ``=`` alone is an empty one. Raises ProtocolError."""
    if text == "=":
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise syntax_error("not base64", status="5.5.2") from None


def unxtext(value: str) -> str:
    """The text that stands in xtext. Raises ProtocolError."""
    head, *parts = value.split("+")
    try:
        return head + "".join(chr(int(part[:2], 16)) + part[2:] for part in parts)
    except ValueError:
        raise syntax_error("bad xtext") from None
