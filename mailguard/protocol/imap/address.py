"""Address lists in header fields (RFC 5322 §3.4, obsolete forms too) and as ENVELOPE shows them (RFC 9051 §7.5.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mailguard.model.charset import decode_header
from mailguard.protocol.imap.text import nstring

_SPEC = rb'([^\s"<>@,;:\\()\[\]]+)@([^\s"<>@,;:\\()\[\]]+)'
_SIMPLE = re.compile(rb'(?:"([^"\\]*)"[ \t]*|([^"<>@,;:\\()\[\]]*))<' + _SPEC + rb">\Z")
_BARE = re.compile(_SPEC + rb"\Z")
_TOKEN = re.compile(rb'\s+|"((?:[^"\\]|\\.)*)"?|([<>@,;:])|(\[(?:[^\]\\]|\\.)*\]?)|([^\s"(),:;<>@\[\\]+|.)', re.S)
_ESCAPE = re.compile(rb"\\(.)", re.S)
_SPACES = re.compile(rb"\s+")

MAX_ADDRESSES = 5_000
"""Addresses of one field that are read; a list is longer only in hostile mail."""

NO_DOMAIN = b"MISSING_DOMAIN"
NO_MAILBOX = b"MISSING_MAILBOX"


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One address as IMAP sees it: a group begins with only ``local`` set (its name) and ends with all None."""

    name: bytes | None
    route: bytes | None
    local: bytes | None
    domain: bytes | None


GROUP_END = Mailbox(None, None, None, None)


def parse_addresses(value: bytes) -> list[Mailbox]:
    """Every address of an unfolded field body; never raises, what cannot be read is marked as missing."""
    if one := _one_simple(value):
        return [one]
    if b"(" not in value and b'"' not in value and b":" not in value and b"," in value:
        found = [_one_simple(piece) for piece in value.split(b",", MAX_ADDRESSES)]
        if all(found):
            return [mailbox for mailbox in found if mailbox]
    return _Reader(value).read()


def _one_simple(piece: bytes) -> Mailbox | None:
    piece = piece.strip(b" \t")
    if match := _SIMPLE.match(piece):
        name = match[1] if match[1] is not None else match[2].rstrip()
        return Mailbox(_SPACES.sub(b" ", name) if name else None, None, match[3], match[4])
    match = _BARE.match(piece)
    return Mailbox(None, None, match[1], match[2]) if match else None


class _Reader:
    """Reads the full grammar. ``words`` collects what stands before the next special character."""

    def __init__(self, value: bytes) -> None:
        self.value = value
        self.found: list[Mailbox] = []
        self.in_group = False
        self._reset()

    def _reset(self) -> None:
        self.words: list[bytes] = []
        self.name: bytes | None = None
        self.route: bytes | None = None
        self.local: bytes | None = None
        self.domain: bytes | None = None
        self.comment = b""
        self.angle = False
        self.quoted = False

    def read(self) -> list[Mailbox]:
        at = 0
        while at < len(self.value) and len(self.found) < MAX_ADDRESSES:
            if self.value[at] == 0x28:
                at, self.comment = _comment(self.value, at)
                continue
            match = _TOKEN.match(self.value, at)
            if match is None:
                break
            at = match.end()
            if match[2]:
                self._special(match[2])
            elif match[1] is not None:
                self.quoted = True
                self.words.append(_ESCAPE.sub(rb"\1", match[1]))
            elif word := match[3] or match[4]:
                self.words.append(word)
        self._finish()
        if self.in_group:
            self.found.append(GROUP_END)
        return self.found

    def _special(self, char: bytes) -> None:
        match char:
            case b"<":
                self.name, self.words, self.angle, self.local, self.domain = self._phrase(), [], True, None, None
            case b"@" if self.angle and self.local is None and not self.words:
                self.words.append(b"@")
            case b"@" if self.local is None and not self._in_route():
                self.local, self.words = b"".join(self.words), []
            case b"@":
                self.words.append(b"@")
            case b">":
                self._take_domain()
                self.angle = False
            case b":" if self._in_route():
                self.route, self.words = b"".join(self.words), []
            case b":" if not self.angle and self.local is None:
                self._group_begins()
            case b"," if self._in_route():
                self.words.append(b",")
            case b"," | b";":
                self._finish()
                if char == b";" and self.in_group:
                    self.found.append(GROUP_END)
                    self.in_group = False
            case _:
                self.words.append(char)

    def _in_route(self) -> bool:
        return self.angle and self.local is None and self.words[:1] == [b"@"]

    def _group_begins(self) -> None:
        name = self._phrase() or b""
        if self.in_group:
            self.found.append(GROUP_END)
        self._reset()
        self.found.append(Mailbox(None, None, name, None))
        self.in_group = True

    def _take_domain(self) -> None:
        if self.local is None:
            self.local = b"".join(self.words)
            self.domain = b""
        elif self.domain is None:
            self.domain = b"".join(self.words)
        self.words = []

    def _phrase(self) -> bytes | None:
        parts = [self.local, b"@"] if self.local is not None else []
        text = b" ".join([p for p in (*parts, *self.words) if p])
        return text or None

    def _finish(self) -> None:
        if self.local is None and not self.words and not self.angle and self.name is None:
            self._reset()
            return
        if self.local is None and not self.angle and self.name is None and (self.quoted or len(self.words) > 1):
            self.name, self.local = self._phrase(), NO_MAILBOX  # words that no address follows are a name
        elif self.local is None or self.domain is None:
            self._take_domain()
        name = self.name or (_SPACES.sub(b" ", self.comment).strip() or None)
        self.found.append(Mailbox(name, self.route, self.local or NO_MAILBOX, self.domain or NO_DOMAIN))
        self._reset()


def _comment(value: bytes, at: int) -> tuple[int, bytes]:
    """The end of the comment that begins at ``at``, and its text."""
    depth, text, start = 0, bytearray(), at
    while at < len(value):
        octet = value[at]
        if octet == 0x5C and at + 1 < len(value):
            at += 1
            text.append(value[at])
        elif octet == 0x28:
            depth += 1
            if at > start:
                text.append(octet)
        elif octet == 0x29:
            depth -= 1
            if depth == 0:
                return at + 1, bytes(text)
            text.append(octet)
        else:
            text.append(octet)
        at += 1
    return at, bytes(text)


def print_addresses(addresses: Iterable[Mailbox]) -> bytes:
    """As in an ENVELOPE: ``((name route local domain)...)``, NIL for none."""
    text = b"".join(
        [b"(%b %b %b %b)" % (nstring(a.name), nstring(a.route), nstring(a.local), nstring(a.domain)) for a in addresses]
    )
    return b"(%b)" % text if text else b"NIL"


def address_text(addresses: Iterable[Mailbox]) -> str:
    """As people read and search it: names decoded, ``Name <local@domain>``, groups by name."""
    return ", ".join([_one_text(a) for a in addresses if a.local is not None])


def _one_text(a: Mailbox) -> str:
    local = (a.local or b"").decode("utf-8", "replace")
    if a.domain is None:
        return decode_header(a.local or b"") + ":"
    if a.name and (a.local, a.domain) == (NO_MAILBOX, NO_DOMAIN):
        return decode_header(a.name)
    spec = f"{local}@{a.domain.decode('utf-8', 'replace')}" if a.domain != NO_DOMAIN else local
    return f"{decode_header(a.name)} <{spec}>" if a.name else spec
