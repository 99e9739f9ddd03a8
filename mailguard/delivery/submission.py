"""What a submission server does to its own users' mail, and to no other: missing fields added, Bcc taken out, long
lines folded, the author checked (RFC 6409 §6, §8; RFC 5322 §3.6)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import format_datetime
from mmap import mmap

from mailguard.auth.accounts import Account, Directory
from mailguard.model.address import Address, AddressError
from mailguard.model.addresslist import read_addresses
from mailguard.model.message import Message
from mailguard.model.reply import Reply

MAX_LINE = 998  # octets without CRLF, RFC 5322 §2.1.1
_BLOCK = 1 << 20  # octets copied at a time
_BREAKS = (b" ", b"\t", b">", b",", b";")
_STRIPPED = ("Bcc", "Resent-Bcc", "Return-Path")


def author(message: Message) -> tuple[Address, ...] | Reply:
    """The addresses in From, none where the field is missing; or why it cannot be accepted."""
    fields = message.get_all("From")
    if len(fields) > 1:
        return Reply.of(550, "5.6.0", "the message has more than one From field")
    if not fields:
        return ()
    found = []
    for _, text in read_addresses([fields[0].value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")]):
        try:
            found.append(Address.parse(text))
        except AddressError as error:
            return Reply.of(550, "5.6.0", f"From cannot be read: {error}"[:200])
    return tuple(found) or Reply.of(550, "5.6.0", "From has no address in it")


def not_yours(account: Account, wanted: Address) -> Reply:
    """The refusal of a sender that the account does not own, with the line that would allow it."""
    cure = f'to allow it, put send_as = ["{wanted}"] into its [[account]] of accounts.toml'
    return Reply.of(553, "5.7.1", f"{account.address} may not send as {wanted}; {cure}")


def refused_author(directory: Directory, account: Account, message: Message) -> Reply | None:
    """The refusal of a message whose From names somebody else, None where all is well."""
    found = author(message)
    if isinstance(found, Reply):
        return found
    for address in found:
        if not directory.may_send_as(account, address):
            return not_yours(account, address)
    return None


def completed(message: Message, account: Account, *, hostname: str, ident: str, now: float) -> Message:
    """The message with what is missing added and what is nobody's business taken out; its lines as they are."""
    gone = [field for name in _STRIPPED for field in message.get_all(name)]
    added: list[bytes] = []
    if not message.get_all("From"):
        added.append(f"From: {account.address}\r\n".encode())
    if not message.get_all("Date"):
        added.append(f"Date: {format_datetime(datetime.fromtimestamp(now, UTC))}\r\n".encode())
    if not message.get_all("Message-ID"):
        added.append(f"Message-ID: <{ident}@{account.address.domain or hostname}>\r\n".encode())
    if gone:
        message = message.without(gone)
    return message.prepend(*added) if added else message


def has_long_lines(raw: bytes | mmap) -> bool:
    """Whether a line has more than 998 octets."""
    return next(_long_lines(raw), None) is not None


def _long_lines(raw: bytes | mmap) -> Iterator[tuple[int, int]]:
    """Where each such line begins and ends, its line end not included."""
    at, end = 0, len(raw)
    while end - at > MAX_LINE:
        # From here to the last line end that a legal line could have: a few steps, however many lines there are.
        last = raw.rfind(b"\r\n", at, at + MAX_LINE + 2)
        if last < 0:
            last = raw.find(b"\r\n", at + MAX_LINE)
            last = end if last < 0 else last
            yield at, last
        at = last + 2


def fold(raw: bytes | mmap) -> Iterator[bytes]:
    """The same message in pieces, none of its lines over 998 octets.

    A header field is folded before white space, as RFC 5322 §2.2.3 has it, or with a blank added where there is
    none; a body line is cut behind a blank or a mark, or between two characters.
    """
    at, header_end = 0, raw.find(b"\r\n\r\n")
    for start, end in _long_lines(raw):
        yield from _blocks(raw, at, start)
        in_header = start < header_end or header_end < 0
        yield from _folded_field(raw, start, end) if in_header else _cut_line(raw, start, end)
        at = end
    yield from _blocks(raw, at, len(raw))


def _blocks(raw: bytes | mmap, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, _BLOCK):
        yield raw[at : min(at + _BLOCK, end)]


def _folded_field(raw: bytes | mmap, at: int, end: int) -> Iterator[bytes]:
    added = b""  # a blank, where there was none to fold before
    while end - at + len(added) > MAX_LINE:
        first, limit = at + 1 - len(added), at + MAX_LINE - len(added)
        cut = max(raw.rfind(blank, first, limit) for blank in (b" ", b"\t"))
        at_blank = cut > first and bool(raw[first:cut].strip())
        cut = cut if at_blank else _between_characters(raw, limit)
        yield added + raw[at:cut] + b"\r\n"
        at, added = cut, b"" if at_blank else b" "
    yield added + raw[at:end]


def _cut_line(raw: bytes | mmap, at: int, end: int) -> Iterator[bytes]:
    while end - at > MAX_LINE:
        cut = max(raw.rfind(mark, at + MAX_LINE // 2, at + MAX_LINE) for mark in _BREAKS) + 1
        cut = cut or _between_characters(raw, at + MAX_LINE)
        yield raw[at:cut] + b"\r\n"
        at = cut
    yield raw[at:end]


def _between_characters(octets: bytes | mmap, at: int) -> int:
    """The last place up to ``at`` that is not inside a UTF-8 character, which has four octets at most."""
    return next((at - back for back in range(4) if octets[at - back] & 0xC0 != 0x80), at)
