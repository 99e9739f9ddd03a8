"""A message from elsewhere that is to be copied into a mailbox here."""

from __future__ import annotations

from typing import NamedTuple


class Foreign(NamedTuple):
    """``id`` names it for good within its source; ``raw`` has CRLF line ends; ``flags`` are IMAP's; ``date`` is its
    INTERNALDATE as Unix time, None if nobody knows it."""

    id: str
    raw: bytes
    flags: tuple[str, ...]
    date: float | None
