"""What the server says, line by line (RFC 9051 §7)."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterable, Sequence

from mailguard.protocol.imap.mailboxname import encode_name
from mailguard.protocol.imap.text import astring, quoted, utf8_quoted

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_TWO = tuple(f"{number:02d}" for number in range(60))


def internal_date(at: float) -> str:
    """``"01-Feb-2026 12:00:00 +0000"`` of a Unix time, in quotes."""
    days, seconds = divmod(int(at), 86_400)
    minutes, second = divmod(seconds, 60)
    return f'"{_day(days)} {_TWO[minutes // 60]}:{_TWO[minutes % 60]}:{_TWO[second]} +0000"'


@functools.lru_cache(maxsize=4096)
def _day(days: int) -> str:
    day = datetime.date.fromordinal(719_163 + days)
    return f"{day.day:02d}-{_MONTHS[day.month - 1]}-{day.year:04d}"


def mailbox_name(name: str, *, utf8: bool) -> bytes:
    """A mailbox name for an answer: modified UTF-7, or UTF-8 where the client enabled it."""
    if not utf8:
        return astring(encode_name(name).encode("ascii"))
    return astring(name.encode()) if name.isascii() else utf8_quoted(name)


def list_line(verb: bytes, name: bytes, attributes: Iterable[str], separator: str, extended: bytes = b"") -> bytes:
    """``* LIST (attributes) "/" name``; ``extended`` is extended data with a space before it."""
    return b"* %b (%b) %b %b%b\r\n" % (
        verb, " ".join(attributes).encode(), quoted(separator.encode()), name, extended,
    )  # fmt: skip


def status_line(name: bytes, items: Iterable[tuple[str, int | bytes]]) -> bytes:
    """``* STATUS name (MESSAGES 3 ...)``."""
    pairs = (b"%b %b" % (key.encode(), value if isinstance(value, bytes) else b"%d" % value) for key, value in items)
    return b"* STATUS %b (%b)\r\n" % (name, b" ".join(pairs))


def flags_line(flags: Sequence[str]) -> bytes:
    """``* FLAGS (...)``."""
    return b"* FLAGS (%b)\r\n" % " ".join(flags).encode()


def numbers_line(verb: bytes, numbers: Sequence[int], tail: bytes = b"") -> bytes:
    """``* SEARCH 2 3 6``; ``tail`` has a space before it."""
    return b"* %b%b%b\r\n" % (verb, b" %d" * len(numbers) % tuple(numbers), tail)


def esearch_line(tag: bytes, uid: bool, results: Iterable[tuple[str, bytes]]) -> bytes:
    """``* ESEARCH (TAG "a1") UID COUNT 3 ALL 1:3`` (RFC 9051 §7.3.4)."""
    words = b"".join(b" %b %b" % (key.encode(), value) for key, value in results)
    return b"* ESEARCH (TAG %b)%b%b\r\n" % (quoted(tag), b" UID" if uid else b"", words)
