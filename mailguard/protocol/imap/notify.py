"""NOTIFY as clients write it (RFC 5465)."""

from __future__ import annotations

from dataclasses import dataclass

from mailguard.protocol.imap.fetch import Item, parse_items
from mailguard.protocol.imap.lexer import CommandError, Lexer

EVENTS = (
    "FlagChange", "MailboxMetadataChange", "MailboxName", "MessageExpunge", "MessageNew", "ServerMetadataChange",
    "SubscriptionChange",
)  # fmt: skip
"""The events that can be asked for here."""

MAX_MAILBOXES = 500
_FILTERS = ("SELECTED", "SELECTED-DELAYED", "INBOXES", "PERSONAL", "SUBSCRIBED", "SUBTREE", "MAILBOXES")


@dataclass(frozen=True, slots=True)
class Filter:
    """Which mailboxes (``kind`` and, for SUBTREE and MAILBOXES, ``names``) and what of them (``events`` in capitals);
    ``items`` of MessageNew in the selected mailbox are fetched at once."""

    kind: str
    names: tuple[str, ...]
    events: frozenset[str]
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Notify:
    """NOTIFY SET, or NOTIFY NONE without filters; ``status``: tell how all those mailboxes stand at once."""

    filters: tuple[Filter, ...] = ()
    status: bool = False


def parse_notify(lexer: Lexer) -> Notify:
    """Everything behind ``NOTIFY``."""
    lexer.space()
    if lexer.accept_word(b"NONE"):
        return Notify()
    if not lexer.accept_word(b"SET"):
        raise CommandError("NOTIFY SET or NOTIFY NONE")
    lexer.space()
    status = lexer.accept_word(b"STATUS")
    if status:
        lexer.space()
    filters = [_filter(lexer)]
    while lexer.accept(b" "):
        filters.append(_filter(lexer))
    return Notify(tuple(filters), status)


def _filter(lexer: Lexer) -> Filter:
    lexer.expect(b"(")
    kind = lexer.word()
    if kind not in _FILTERS:
        raise CommandError(f"no mailbox filter {kind}")
    lexer.space()
    names: tuple[str, ...] = ()
    if kind in ("SUBTREE", "MAILBOXES"):
        names = lexer.parenthesised(lexer.mailbox) if lexer.peek() == b"(" else (lexer.mailbox(),)
        lexer.space()
        if len(names) > MAX_MAILBOXES:
            raise CommandError(f"more than {MAX_MAILBOXES} mailboxes", status="NO", code="NOTIFICATIONOVERFLOW")
    items: list[Item] = []
    events = frozenset() if lexer.accept_word(b"NONE") else frozenset(lexer.parenthesised(lambda: _event(lexer, items)))
    lexer.expect(b")")
    if ("MESSAGENEW" in events) != ("MESSAGEEXPUNGE" in events) or (
        "FLAGCHANGE" in events and "MESSAGENEW" not in events
    ):
        raise CommandError("MessageNew and MessageExpunge go together, and FlagChange with them (RFC 5465 §5)")
    return Filter(kind, names, events, tuple(items))


def _event(lexer: Lexer, items: list[Item]) -> str:
    name = lexer.word()
    if name not in {event.upper() for event in EVENTS}:
        raise CommandError(f"no event {name} here", status="NO", code=f"BADEVENT ({' '.join(EVENTS)})")
    if name == "MESSAGENEW" and lexer.accept(b" ("):
        items += parse_items(lexer)
    return name
