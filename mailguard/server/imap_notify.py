"""NOTIFY: how other mailboxes than the selected one stand, told when they change (RFC 5465).

Of several filters that a mailbox meets, the first one counts (RFC 5465 §6).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from mailguard.protocol.imap.fetch import Item
from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.notify import Filter, Notify
from mailguard.protocol.imap.response import status_line
from mailguard.server.imap_client import Client, Handler
from mailguard.server.imap_fetch import print_messages
from mailguard.server.imap_notify_names import EVENTS, NamesWatched
from mailguard.store.account import SEPARATOR, MailboxNameError
from mailguard.store.mailbox import Mailbox
from mailguard.store.share import NAMESPACE
from mailguard.store.snapshot import NoSuchMailboxError, Status

_SELECTED = ("SELECTED", "SELECTED-DELAYED")


@dataclass(slots=True)
class Watched:
    """A mailbox that the client wants to hear of: how it stood when it was last told."""

    name: str
    mailbox: Mailbox
    events: frozenset[str]
    told: tuple[int, ...] = ()

    def standing(self) -> tuple[Status, tuple[int, ...]]:
        """How it stands, and what of that is worth telling."""
        status = self.mailbox.status()
        known = (status.messages, status.uid_next, status.uid_validity, status.unseen)
        return status, (*known, status.highest_modseq) if "FLAGCHANGE" in self.events else known


def notify(client: Client, command: Notify) -> None:
    """NOTIFY SET and NOTIFY NONE."""
    watched = _watched(client, command, {})
    if len(watched) > 500:
        raise CommandError("that many mailboxes cannot be watched", status="NO", code="NOTIFICATIONOVERFLOW")
    asked: set[str] = set().union(*(each.events for each in command.filters))
    names = NamesWatched(client, partial(_events_of, client, command)) if asked & EVENTS else None
    selected = next((each for each in command.filters if each.kind in _SELECTED and each.events), None)
    _begin(client, command, watched, names, wanted=bool(watched or names or selected))
    items = selected.items if selected is not None else ()
    client.on_arrival = (lambda uids: _fetched(client, uids, items)) if items else None
    if command.status:
        for mailbox in watched.values():
            client.send(_status(client, mailbox, mailbox.standing()[0]))


def _begin(
    client: Client, command: Notify, watched: dict[str, Watched], names: NamesWatched | None, *, wanted: bool
) -> None:
    def look() -> None:
        if names is not None and names.tell():
            _begin(client, command, _watched(client, command, watched), names, wanted=True)
        tell(client, watched)

    mailboxes = [each.mailbox for each in watched.values()]
    client.watch(look if wanted else None, mailboxes, names=names is not None)


def _watched(client: Client, command: Notify, before: dict[str, Watched]) -> dict[str, Watched]:
    """The mailboxes whose messages the client wants to hear of; those watched ``before`` stay as they are."""
    found: dict[str, Watched] = {}
    for each in command.filters:
        for name in _names(client, each):
            with contextlib.suppress(NoSuchMailboxError, MailboxNameError):
                known = before.get(name)
                found.setdefault(name, known or Watched(name, client.store.mailbox(name), each.events))
    found = {name: each for name, each in found.items() if "MESSAGENEW" in each.events}
    for name in found.keys() - before.keys():
        found[name].told = found[name].standing()[1]
    return found


def _events_of(client: Client, command: Notify, name: str) -> frozenset[str]:
    """What the client wants to hear of the name of a mailbox that there may not be, or (``""``) of the server."""
    if not name:
        return frozenset().union(*(each.events for each in command.filters))
    for each in command.filters:
        personal = each.kind == "PERSONAL" and not name.startswith(f"{NAMESPACE}{SEPARATOR}")
        if personal or name in _names(client, each):
            return each.events
        if each.kind in ("SUBTREE", "MAILBOXES") and name in each.names:
            return each.events
        if each.kind == "SUBTREE" and name.startswith(tuple(above + SEPARATOR for above in each.names)):
            return each.events
    return frozenset()


def _fetched(client: Client, uids: Sequence[int], items: Sequence[Item]) -> None:
    """What MessageNew asks to be told of new messages in the selected mailbox; one that is gone again is left out."""
    print_messages(client, uids, items)


def tell(client: Client, watched: dict[str, Watched]) -> None:
    """Tells of the mailboxes that changed since."""
    for name, each in list(watched.items()):
        if client.is_selected(each.mailbox):
            continue
        try:
            status, standing = each.standing()
        except NoSuchMailboxError:
            del watched[name]
            continue
        if standing != each.told:
            each.told = standing
            client.send(_status(client, each, status))


def _status(client: Client, watched: Watched, status: Status) -> bytes:
    items = [("MESSAGES", status.messages), ("UIDNEXT", status.uid_next), ("UIDVALIDITY", status.uid_validity)]
    if "FLAGCHANGE" in watched.events:
        items.append(("UNSEEN", status.unseen))
    if "FLAGCHANGE" in watched.events or client.condstore:
        items.append(("HIGHESTMODSEQ", status.highest_modseq))
    return status_line(client.printed(watched.name), items)


def _names(client: Client, wanted: Filter) -> list[str]:
    match wanted.kind:
        case "MAILBOXES":
            return list(wanted.names)
        case "INBOXES":
            return ["INBOX"]
        case "PERSONAL":
            return client.store.names()
        case "SUBSCRIBED":
            return client.store.subscriptions()
        case "SUBTREE":
            below = tuple(name + SEPARATOR for name in wanted.names)
            return [name for name in client.store.names() if name in wanted.names or name.startswith(below)]
        case _:
            return []  # the selected mailbox is always told of


HANDLERS: dict[str, Handler] = {"NOTIFY": notify}
