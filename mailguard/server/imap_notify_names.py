"""NOTIFY of mailbox names, subscriptions and metadata: what changed since the client last heard (RFC 5465 §5.4-5.7)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mailguard.protocol.imap.arguments import Create, Names
from mailguard.protocol.imap.listing import List, Name, attributes
from mailguard.protocol.imap.metadata import SetMetadata
from mailguard.protocol.imap.response import list_line
from mailguard.server.imap_client import Client
from mailguard.server.imap_list import names
from mailguard.store.account import SEPARATOR
from mailguard.store.annotation import Annotations
from mailguard.store.snapshot import NoSuchMailboxError

EVENTS = frozenset(("MAILBOXNAME", "SUBSCRIPTIONCHANGE", "MAILBOXMETADATACHANGE", "SERVERMETADATACHANGE"))
"""The events that are told of here."""

_ASKED = List("", (), returns=frozenset(("SUBSCRIBED",)), extended=True)


@dataclass(frozen=True, slots=True)
class Standing:
    """How everything stood at one time: names, the ids of mailboxes, their metadata (the server's under ``""``)."""

    names: dict[str, Name]
    ids: dict[str, str]
    metadata: dict[str, dict[str, bytes]]


class NamesWatched:
    """Tells one client; ``events_of`` are the events that it asked for of a mailbox name, or (``""``) of the server."""

    def __init__(self, client: Client, events_of: Callable[[str], frozenset[str]]) -> None:
        self._client = client
        self._events_of = events_of
        self._known = self._look({})

    def _look(self, known: dict[str, str]) -> Standing:
        store = self._client.store
        found = {name.name: name for name in names(self._client)}
        ids = {}
        for name in found:
            if found[name].exists and name not in known:
                with contextlib.suppress(NoSuchMailboxError):
                    ids[name] = store.mailbox(name).status().mailbox_id
            elif found[name].exists:
                ids[name] = known[name]
        return Standing(found, ids, Annotations(store.root).all())

    def tell(self) -> bool:
        """Says what changed, but for what the client's own command did; whether mailboxes came or went."""
        before, now = self._known, self._look(self._known.ids)
        self._known = now
        client, own = self._client, own_names(self._client)
        for line, name in (*self._renamed(before, now), *self._listed(before, now)):
            if not any(name == each or name.startswith(each + SEPARATOR) for each in own):
                client.send(line)
        for mailbox in {"", *before.ids.keys() & now.ids.keys()} - own:
            self._metadata(mailbox, before.metadata.get(mailbox, {}), now.metadata.get(mailbox, {}))
        return before.ids.keys() != now.ids.keys()

    def _renamed(self, before: Standing, now: Standing) -> Iterator[tuple[bytes, str]]:
        for old, new in renames(before, now).items():
            outermost = old.rpartition(SEPARATOR)[0] not in renames(before, now)
            if outermost and "MAILBOXNAME" in self._events_of(new) | self._events_of(old):
                extended = b' ("OLDNAME" (%b))' % self._client.printed(old)
                yield self._line(now.names[new], extended), new

    def _listed(self, before: Standing, now: Standing) -> Iterator[tuple[bytes, str]]:
        moved = {name for pair in renames(before, now).items() for name in pair}
        changed = {name for name in before.ids.keys() ^ now.ids.keys() if name not in moved}
        parents = {name.rpartition(SEPARATOR)[0] for name in changed} - {""}
        for name in sorted(before.names.keys() | now.names.keys() | parents):
            old, new = before.names.get(name), now.names.get(name)
            wanted = {"MAILBOXNAME"} if name in changed | parents else set()
            if (old is not None and old.subscribed) != (new is not None and new.subscribed):
                wanted.add("SUBSCRIPTIONCHANGE")
            if wanted and wanted & self._events_of(name):
                yield self._line(new or Name(name, exists=False)), name

    def _line(self, name: Name, extended: bytes = b"") -> bytes:
        return list_line(b"LIST", self._client.printed(name.name), attributes(name, _ASKED), SEPARATOR, extended)

    def _metadata(self, mailbox: str, before: dict[str, bytes], now: dict[str, bytes]) -> None:
        changed = [e for e in sorted(before.keys() | now.keys()) if before.get(e) != now.get(e)]
        event = "MAILBOXMETADATACHANGE" if mailbox else "SERVERMETADATACHANGE"
        if changed and event in self._events_of(mailbox):  # the names alone (RFC 5464 §4.4.2)
            printed = self._client.printed(mailbox) if mailbox else b'""'
            self._client.send(b"* METADATA %b %b\r\n" % (printed, " ".join(changed).encode()))


def renames(before: Standing, now: Standing) -> dict[str, str]:
    """Mailboxes that are the same under another name."""
    came = {now.ids[name]: name for name in now.ids.keys() - before.ids.keys()}
    return {name: came[id] for name, id in before.ids.items() if name not in now.ids and id in came}


def own_names(client: Client) -> set[str]:
    """The mailboxes that the command under way changes: its client need not be told of them."""
    match client.request.arguments:
        case Create(mailbox) if client.request.name == "CREATE":
            return {client.settled(mailbox.removesuffix(SEPARATOR))}
        case Names(mailbox, other) if client.request.name in ("DELETE", "RENAME", "SUBSCRIBE", "UNSUBSCRIBE"):
            return {client.settled(name.removesuffix(SEPARATOR)) for name in (mailbox, other) if name}
        case SetMetadata(mailbox):
            return {mailbox}
        case _:
            return set()
