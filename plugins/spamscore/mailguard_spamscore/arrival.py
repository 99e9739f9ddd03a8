"""A message as it looked when it arrived, and its name in the journal, whatever delivery put on top of it since."""

from __future__ import annotations

import hashlib
import re

from .part import blank_line, fields_of

_START = re.compile(rb"^(?=[!-9;-~]+[ \t]*:)", re.M)
_MAX_HEAD = 64 * 1024
_MAX_BODY = 256 * 1024
_OURS = (b"return-path", b"delivered-to", b"authentication-results", b"x-mailguard", b"received-spf", b"x-original-to")


def arriving(raw: bytes, *, helo: str, ptr: str, ip: str, hostname: str) -> bytes:
    """The message with the hop into this server on top, as it will stand in the delivered file."""
    name = ptr or "unknown"
    hop = f"Received: from {helo or 'unknown'} ({name} [{ip}])\r\n\tby {hostname} (mailguard)\r\n"
    return hop.encode("utf-8", "replace") + raw


def arrived(stored: bytes, hostname: str) -> bytes:
    """A delivered file without what we put above our Received field, and without any verdict of ours below."""
    cut = blank_line(stored, 0, _MAX_HEAD)
    end = cut[0] if cut else min(len(stored), _MAX_HEAD)
    pieces = [p for p in _START.split(stored[:end]) if p]
    by_us = re.compile(rb"received[ \t]*:.{0,1000}?\bby\s+" + re.escape(hostname.encode()), re.I | re.S)
    own = next((i for i, p in enumerate(pieces) if by_us.match(p)), -1)
    kept = [p for i, p in enumerate(pieces) if not (p.lower().startswith(_OURS) and i <= own)]
    kept = [p for p in kept if not p.lower().startswith(b"x-mailguard")]
    return b"".join(kept) + stored[end:]


def first_fields(raw: bytes) -> dict[bytes, bytes]:
    """The first field of each name, of a message as it arrived."""
    cut = blank_line(raw, 0, _MAX_HEAD)
    return dict(reversed(fields_of(raw[: cut[0]] if cut else raw)))


def digest(raw: bytes, known: dict[bytes, bytes] | None = None) -> str:
    """Names a message by its Message-ID, From, Date and body, so that it is the same after delivery and moves; its
    ``first_fields`` may be known."""
    known = first_fields(raw) if known is None else known
    cut = blank_line(raw, 0, _MAX_HEAD)
    body = raw[cut[1] : cut[1] + _MAX_BODY] if cut else b""
    parts = [known.get(name, b"").strip() for name in (b"message-id", b"from", b"date")]
    return hashlib.sha256(b"\0".join([*parts, body.replace(b"\r\n", b"\n").rstrip()])).hexdigest()[:40]
