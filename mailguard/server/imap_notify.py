"""NOTIFY: how other mailboxes than the selected one stand, told when they change (RFC 5465)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from mailguard.protocol.imap.fetch import Item
from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.notify import Filter, Notify
from mailguard.protocol.imap.response import status_line
from mailguard.server.imap_client import Client, Handler
from mailguard.server.imap_fetch import print_messages
from mailguard.store.account import SEPARATOR, MailboxNameError
from mailguard.store.mailbox import Mailbox
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
    watched: dict[str, Watched] = {}
    for each in command.filters:
        for name in _names(client, each):
            if each.events:
                with contextlib.suppress(NoSuchMailboxError, MailboxNameError):
                    watched.setdefault(name, Watched(name, client.store.mailbox(name), each.events))
    if len(watched) > 500:
        raise CommandError("that many mailboxes cannot be watched", status="NO", code="NOTIFICATIONOVERFLOW")
    for mailbox in watched.values():
        mailbox.told = mailbox.standing()[1]
    selected = next((each for each in command.filters if each.kind in _SELECTED and each.events), None)
    wanted = bool(watched) or selected is not None
    client.watch((lambda: tell(client, watched)) if wanted else None, [each.mailbox for each in watched.values()])
    items = selected.items if selected is not None else ()
    client.on_arrival = (lambda uids: _fetched(client, uids, items)) if items else None
    if command.status:
        for mailbox in watched.values():
            client.send(_status(client, mailbox, mailbox.standing()[0]))


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
