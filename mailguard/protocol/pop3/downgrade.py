"""UTF-8 header fields for a client that has not asked for them (RFC 6856 §2.1, after RFC 6857 and RFC 6858)."""

from __future__ import annotations

import re
from email.header import Header

from mailguard.model.message import Message

_ADDRESSES = frozenset({
    "from", "sender", "reply-to", "to", "cc", "bcc", "resent-from", "resent-sender", "resent-to", "resent-cc",
    "return-path", "disposition-notification-to",
})  # fmt: skip
_ADDRESS = re.compile(r"<[^<>]*+>|[^\s,<>\"]++")  # or a word
_NOWHERE = "<invalid@internationalized-address.invalid>"


def downgraded(raw: bytes) -> bytes:
    """The message with every header field in ASCII, the same octets where all of them are.

    Text becomes encoded words; an address that only exists in UTF-8 becomes one that cannot be answered. Octets
    that are not UTF-8 are old mail, not RFC 6532, and stay as they are.
    """
    message = Message(raw)
    header = raw[: message.body_start]
    if header.isascii():
        return raw
    try:
        header.decode()
    except UnicodeDecodeError:
        return raw
    fields = b"".join(f.raw if f.raw.isascii() else _ascii(f.name, f.value) for f in message.fields)
    return fields + b"\r\n" + raw[message.body_start :]


def _ascii(name: str, value: str) -> bytes:
    if name.lower() in _ADDRESSES:
        value = _ADDRESS.sub(_reachable, value)
        parts = re.split(r"([,<>\"])", value)
        value = "".join(part if part.isascii() else _words(part) for part in parts).replace('"', "")
        return f"{name}: {value}\r\n".encode("ascii", "replace")
    return f"{name}: {_words(value, len(name) + 2)}\r\n".encode("ascii", "replace")


def _reachable(found: re.Match[str]) -> str:
    text = found[0]
    return text if text.isascii() or not (text[0] == "<" or "@" in text) else _NOWHERE


def _words(text: str, indent: int = 0) -> str:
    inner = text.strip()
    before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    encoded = Header(inner, "utf-8", header_name="x" * max(indent - 2, 0), maxlinelen=76).encode(linesep="\r\n")
    return (before and " ") + encoded + (after and " ")
