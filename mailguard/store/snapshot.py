"""What a mailbox tells and takes: its status, what changed, messages to append, and what can be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class NoSuchMailboxError(LookupError):
    """There is no mailbox of this name, or its folder is gone."""


class ExpungedError(LookupError):
    """The message is gone."""


class KeywordLimitError(ValueError):
    """The mailbox has all the keywords that its format can hold."""


@dataclass(frozen=True, slots=True)
class Status:
    """What STATUS and SELECT tell; ``size`` in octets, ``recent`` the messages no session has seen."""

    uid_validity: int
    uid_next: int
    highest_modseq: int
    messages: int
    unseen: int
    deleted: int
    recent: int
    size: int
    mailbox_id: str


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened after a MODSEQ: ``flags`` are ``(uid, flags, modseq)`` of new and changed messages. Where
    ``complete`` is False the MODSEQ is too old to tell what vanished: take every UID that is not there (RFC 7162
    §3.2.5.2)."""

    highest_modseq: int
    flags: list[tuple[int, str, int]]
    vanished: list[int]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to append; ``date`` is its INTERNALDATE as Unix time, None for now."""

    chunks: Sequence[bytes | memoryview]
    flags: tuple[str, ...] = ()
    date: float | None = None


@dataclass(frozen=True, slots=True)
class StoreResult:
    """``changed`` are ``(uid, flags, modseq)`` of all messages looked at, ``modified`` those that UNCHANGEDSINCE
    left alone (RFC 7162 §3.1.3)."""

    changed: list[tuple[int, str, int]]
    modified: list[int]
