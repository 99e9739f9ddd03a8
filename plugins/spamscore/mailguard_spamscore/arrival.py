"""A message as it looked when it arrived, and its name in the journal, whatever delivery put on top of it since."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import mktime_tz, parsedate_tz

from .part import blank_line, fields_of

_START = re.compile(rb"^(?=[!-9;-~]+[ \t]*:)", re.M)
_MAX_HEAD = 64 * 1024
_MAX_BODY = 256 * 1024
_FROM = re.compile(r"from\s+(\S+)(?:\s+\((?:(\S+)\s+)?\[(?:IPv6:)?([^\]\s]+)\]\))?")
_SIGNED_IN = re.compile(r"\bwith\s+(?:UTF8)?(?:ESMTP|SMTP|LMTP)S?A\b")
_RESULT = re.compile(r"\b(spf|dkim|dmarc|arc|iprev)=([a-z]+)")
_LISTED = re.compile(r"\s*\w+\s+\([^)]{1,60};\s+dnsbl=listed\)")
_OURS = (b"return-path", b"delivered-to", b"authentication-results", b"x-mailguard", b"received-spf", b"x-original-to")


@dataclass(frozen=True, slots=True)
class Hop:
    """The way a message came in here: the client's ``helo`` and ``ip``, whether one of our users was signed in, when
    (Unix time, None unless it is read from a delivered file), and what the checks found, by method (for block lists
    ``dnsbl``)."""

    helo: str = ""
    ip: str = ""
    signed_in: bool = False
    at: float | None = None
    words: Mapping[str, str] = field(default_factory=dict)


def hop(stored: bytes, hostname: str) -> Hop:
    """What a delivered file says of its arrival here, by our own Received and Authentication-Results fields; an empty
    one for a file that did not come in here."""
    pieces, own, _ = _pieces(stored, hostname)
    if own < 0:
        return Hop()
    received = pieces[own].decode("utf-8", "replace").partition(":")[2].strip()
    client = _FROM.match(received)
    helo, _, ip = client.groups("") if client else ("", "", "")
    parsed = parsedate_tz(received.rpartition(";")[2])
    words: dict[str, str] = {}
    for piece in pieces[:own]:
        name, _, value = piece.decode("ascii", "replace").partition(":")
        if name.strip().lower() == "x-mailguard-spam" and _LISTED.match(value):
            words["dnsbl"] = "listed"
        if name.strip().lower() == "authentication-results" and value.strip().lower().startswith(hostname.lower()):
            for method, result in _RESULT.findall(value):
                if words.get(method) != "pass":
                    words[method] = result
    signed_in = bool(_SIGNED_IN.search(received))
    return Hop(helo if ip else "", ip, signed_in, mktime_tz(parsed) if parsed else None, words)


def arriving(raw: bytes, *, helo: str, ptr: str, ip: str, hostname: str) -> bytes:
    """The message with the hop into this server on top, as it will stand in the delivered file."""
    name = ptr or "unknown"
    hop = f"Received: from {helo or 'unknown'} ({name} [{ip}])\r\n\tby {hostname} (mailguard)\r\n"
    return hop.encode("utf-8", "replace") + raw


def arrived(stored: bytes, hostname: str) -> bytes:
    """A delivered file without what we put above our Received field, and without any verdict of ours below."""
    pieces, own, end = _pieces(stored, hostname)
    kept = [p for i, p in enumerate(pieces) if not (p.lower().startswith(_OURS) and i <= own)]
    kept = [p for p in kept if not p.lower().startswith(b"x-mailguard")]
    return b"".join(kept) + stored[end:]


def _pieces(stored: bytes, hostname: str) -> tuple[list[bytes], int, int]:
    """The fields of a file, which of them is our Received (-1: none), and where the header ends."""
    cut = blank_line(stored, 0, _MAX_HEAD)
    end = cut[0] if cut else min(len(stored), _MAX_HEAD)
    pieces = [p for p in _START.split(stored[:end]) if p]
    by_us = re.compile(rb"received[ \t]*:.{0,1000}?\bby\s+" + re.escape(hostname.encode()), re.I | re.S)
    return pieces, next((i for i, p in enumerate(pieces) if by_us.match(p)), -1), end


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
