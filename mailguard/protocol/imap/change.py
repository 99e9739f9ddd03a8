"""STORE, COPY and MOVE as clients write them (RFC 9051 §6.4.6 to §6.4.8, RFC 7162 §3.1.3)."""

from __future__ import annotations

from dataclasses import dataclass

from mailguard.protocol.imap.lexer import CommandError, Lexer
from mailguard.protocol.imap.sequence import SequenceSet

MAX_FLAGS = 200

SYSTEM_FLAGS = ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")
"""The flags a client may set."""


@dataclass(frozen=True, slots=True)
class Store:
    """STORE or UID STORE; ``mode`` is ``+``, ``-`` or ``=``, ``set`` None for ``$``."""

    set: SequenceSet | None
    mode: str
    flags: tuple[str, ...]
    silent: bool
    uid: bool
    unchanged_since: int | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """COPY, MOVE and their UID forms."""

    set: SequenceSet | None
    mailbox: str
    uid: bool


def parse_store(lexer: Lexer, uid: bool) -> Store:
    """Everything behind ``STORE``."""
    lexer.space()
    numbers = lexer.sequence_set()
    lexer.space()
    unchanged_since = None
    if lexer.accept(b"("):
        if not lexer.accept_word(b"UNCHANGEDSINCE"):
            raise CommandError("UNCHANGEDSINCE is the only STORE modifier")
        lexer.space()
        unchanged_since = lexer.number()
        lexer.expect(b")")
        lexer.space()
    mode = next((sign for sign in "+-" if lexer.accept(sign.encode())), "=")
    name = lexer.word()
    if name not in ("FLAGS", "FLAGS.SILENT"):
        raise CommandError(f"{name} cannot be stored")
    lexer.space()
    return Store(numbers, mode, _flags(lexer), name == "FLAGS.SILENT", uid, unchanged_since)


def _flags(lexer: Lexer) -> tuple[str, ...]:
    if lexer.peek() == b"(":
        found = list(lexer.parenthesised(lexer.flag, empty=True))
    else:
        found = [lexer.flag()]
        while lexer.accept(b" "):
            found.append(lexer.flag())
    if len(found) > MAX_FLAGS:
        raise CommandError(f"more than {MAX_FLAGS} flags", status="NO", code="LIMIT")
    return settable(found)


def settable(flags: list[str] | tuple[str, ...]) -> tuple[str, ...]:
    """Flags that a client may set, system flags in their usual case. Raises CommandError."""
    usual = {flag.lower(): flag for flag in SYSTEM_FLAGS}
    found = []
    for flag in flags:
        if flag.startswith("\\") and flag.lower() not in usual:
            if flag.lower() == "\\recent":
                raise CommandError("\\Recent is not for clients to set")
            raise CommandError(f"no system flag {flag[:40]}")
        found.append(usual.get(flag.lower(), flag))
    return tuple(dict.fromkeys(found))


def parse_copy(lexer: Lexer, uid: bool) -> Copy:
    """Everything behind ``COPY`` and ``MOVE``."""
    lexer.space()
    numbers = lexer.sequence_set()
    lexer.space()
    return Copy(numbers, lexer.mailbox(), uid)
