"""Descriptions of messages as the index keeps them: those of 256 messages together, column by column and packed.

Alone a description takes a kilobyte; among others it takes a fifth of it, for subjects, addresses and structures
repeat, and to unpack all of them costs less than to read one row for each."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import zstandard

from mailguard.protocol.imap.describe import Description

SIZE = 256
"""Messages of a parcel: those whose content ids differ in the lowest 8 bits only."""

SECTIONS = (
    ("envelope", "bodystructure", "message_id", "references", "email_id"),
    ("subject", "from", "to", "cc", "bcc", "base_subject", "is_reply", "from_key", "to_key", "cc_key", "display_from",
     "display_to", "sent_at", "sent_day"),
)  # fmt: skip
"""The columns that are packed together: what clients are shown, and what is searched and sorted by. THREAD needs both.
``envelope`` and ``bodystructure`` are octets to be sent, as latin-1 text; ``references`` are separated by spaces; see
describe.Description for the rest."""

_LEVEL = 9
_OCTETS = {"envelope", "bodystructure"}
_OPTIONAL = {"subject", "from", "to", "cc", "bcc"}
_NUMBERS = {"is_reply", "sent_at", "sent_day"}
_NONE = b"\1"
_BLANKS = bytes(32 if octet < 2 else octet for octet in range(256))

Record = tuple[list[bytes], list[bytes]]
"""The fields of one message, those of each section: no NUL is in them."""


def record(d: Description, email_id: str) -> Record:
    """What is kept of a message."""
    sent_at, sent_day = (b"" if number is None else b"%d" % number for number in (d.sent_at, d.sent_day))
    texts = d.subject, d.from_, d.to, d.cc, d.bcc, d.base_subject
    keys = d.from_key, d.to_key, d.cc_key, d.display_from, d.display_to
    ready = [d.envelope, d.bodystructure, _octets(d.message_id), _octets(" ".join(d.references)), email_id.encode()]
    return ready, [*map(_octets, texts), b"%d" % d.is_reply, *map(_octets, keys), sent_at, sent_day]


def _octets(text: str | None) -> bytes:
    """Text as it can be kept: no lone surrogates, none of the two characters that mean something here."""
    if text is None:
        return _NONE
    data = text.encode("utf-8", "replace")
    return data.translate(_BLANKS) if b"\0" in data or b"\1" in data else data


def joined(fields: Sequence[bytes]) -> bytes:
    """One message's fields of one section."""
    return b"\0".join(fields)


def columns(rows: Iterable[bytes]) -> list[bytes]:
    """One section of a whole parcel, given as ``joined`` fields (``b""`` where there is no message): its columns, each
    with a NUL between two messages."""
    parted = [row.split(b"\0") for row in rows]
    width = max(map(len, parted))
    none = [b""] * width
    fields = (each if len(each) == width else none for each in parted)
    return [b"\0".join(column) for column in zip(*fields, strict=True)]


def packed(rows: Iterable[bytes]) -> bytes:
    """The same as it is kept."""
    parted = columns(rows)
    head = b" ".join(b"%d" % len(column) for column in parted)
    return zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compress(b"\n".join((head, b"".join(parted))))


def unpacked(data: bytes) -> list[bytes]:
    """The columns again. Raises sqlite3.DatabaseError if they are torn."""
    try:
        raw = zstandard.ZstdDecompressor().decompress(data)
    except zstandard.ZstdError as error:
        raise sqlite3.DatabaseError(f"descriptions cannot be unpacked: {error}") from None
    at = raw.index(b"\n")
    found = []
    for length in map(int, raw[:at].split(b" ")):
        found.append(raw[at + 1 : at + 1 + length])
        at += length
    return found


def values(name: str, column: bytes) -> list[Any]:
    """What a column holds, message by message."""
    words = column.decode("latin-1" if name in _OCTETS else "utf-8").split("\0")
    if name in _NUMBERS:
        return [int(word) if word else None for word in words] if "" in words else list(map(int, words))
    if name in _OPTIONAL and _NONE in column:
        return [None if word == "\1" else word for word in words]
    return words


class Parcel:
    """The columns of ``SIZE`` messages, by the lowest 8 bits of their content ids. ``section`` gives one section's
    columns, each with a NUL between two messages."""

    def __init__(self, section: Callable[[int], list[bytes]]) -> None:
        self._section = section
        self._opened: dict[int, list[bytes]] = {}

    def column(self, name: str) -> list[Any]:
        """The values of one column."""
        number = name not in SECTIONS[0]
        section = self._opened.get(number) or self._opened.setdefault(number, self._section(number))
        return values(name, section[SECTIONS[number].index(name)])
