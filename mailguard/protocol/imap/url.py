"""IMAP URLs of messages and their parts, as APPEND CATENATE names them (RFC 5092, RFC 4469 §3)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from mailguard.protocol.imap.fetch import Section, section_of
from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.sequence import MAX

_URL = re.compile(
    rb"/?([^;]*?)(?:;UIDVALIDITY=([1-9]\d{0,9}))?/?;UID=([1-9]\d{0,9})"
    rb"(?:/;SECTION=([^;]+))?(?:/;PARTIAL=(\d{1,19})(?:\.([1-9]\d{0,9}))?)?\Z",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Url:
    """A message, or what of it ``section`` says; ``text`` is the URL as the client wrote it. ``mailbox`` is empty for
    the selected one, ``uid_validity`` 0 where the URL tells none."""

    text: bytes
    mailbox: str
    uid_validity: int
    uid: int
    section: Section


def parse_url(text: bytes) -> Url:
    """A URL without its server. Raises CommandError (NO [BADURL])."""
    match = _URL.match(text)
    if match is None:
        raise bad_url(text, "is not the URL of a message here")
    mailbox, validity, uid, section, start, count = match.groups(b"")
    if max(int(uid), int(validity or 0)) > MAX:
        raise bad_url(text, "has a number over 32 bits")
    partial = b"<%d.%d>" % (int(start), int(count or MAX)) if start else b""
    try:
        name = unquote_to_bytes(mailbox).decode()
        named = section_of(unquote_to_bytes(section), partial)
    except (UnicodeDecodeError, CommandError):
        raise bad_url(text, "names a mailbox or a section that there cannot be") from None
    return Url(text, "INBOX" if name.upper() == "INBOX" else name, int(validity or 0), int(uid), named)


def bad_url(text: bytes, why: str) -> CommandError:
    """NO [BADURL] for a URL; it is told in characters that a response code may hold."""
    shown = quote(text[:1000], safe="/;=&%+.,:@!*'()")
    return CommandError(f"that URL {why}", status="NO", code=f"BADURL {shown}")
