"""FETCH (RFC 9051 §6.4.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mailguard.model.mime import Part, parse
from mailguard.protocol.imap.fetch import Attribute, Fetch, Section
from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.response import internal_date
from mailguard.protocol.imap.section import octets
from mailguard.protocol.imap.text import literal, utf8_quoted
from mailguard.server.imap_client import Client, Done, Handler, Selected
from mailguard.server.imap_mailboxes import vanished_since
from mailguard.store.snapshot import ExpungedError

_PORTION = 500  # messages between two looks at how much has gathered

# How each item is printed from the value of its column.
_PRINTED: dict[str, tuple[str, Callable[[Any], bytes]]] = {
    "UID": ("uid", lambda value: b"UID %d" % value),
    "FLAGS": ("flags", lambda value: b"FLAGS (%b)" % value.encode()),
    "INTERNALDATE": ("date", lambda value: b"INTERNALDATE " + internal_date(value)),
    "RFC822.SIZE": ("size", lambda value: b"RFC822.SIZE %d" % value),
    "MODSEQ": ("modseq", lambda value: b"MODSEQ (%d)" % value),
    "SAVEDATE": ("saved", lambda value: b"SAVEDATE " + internal_date(value)),
    "ENVELOPE": ("envelope", lambda value: b"ENVELOPE " + value),
    "BODYSTRUCTURE": ("bodystructure", lambda value: b"BODYSTRUCTURE " + value),
    "BODY": ("body", lambda value: b"BODY " + value),
    "PREVIEW": ("preview", lambda value: b"PREVIEW " + utf8_quoted(value)),
    "EMAILID": ("email_id", lambda value: b"EMAILID (%b)" % value.encode()),
    "THREADID": ("uid", lambda value: b"THREADID NIL"),
}


def fetch(client: Client, command: Fetch) -> Done:
    """FETCH and UID FETCH."""
    selected = client.selected
    items = list(command.items)
    if Attribute("MODSEQ") in items or command.changed_since is not None:
        client.enable_condstore()
    if command.vanished and "QRESYNC" not in client.session.enabled:
        raise CommandError("VANISHED needs QRESYNC enabled (RFC 7162 §3.2.6)")
    uids = selected.resolve(command.set, command.uid)
    if command.partial is not None:
        uids = window(uids, command.partial)
    if command.changed_since is not None:
        uids = _changed(client, selected, command, uids)
    read = [item for item in items if isinstance(item, Section) and not item.peek]
    if read and not selected.read_only:
        _mark_seen(client, selected, uids, items)
    if client.condstore and Attribute("FLAGS") in items and Attribute("MODSEQ") not in items:
        items.append(Attribute("MODSEQ"))
    if _print(client, selected, uids, items):
        raise CommandError("some of the messages are gone", status="NO", code="EXPUNGEISSUED")
    return Done()


def window(uids: list[int], partial: tuple[int, int]) -> list[int]:
    """PARTIAL's part of a list: ``1:500`` from the start, ``-1:-100`` from the end, in mailbox order."""
    first, last = partial
    if first > 0:
        return uids[first - 1 : last]
    return uids[max(0, len(uids) + last) : len(uids) + first + 1]


def _changed(client: Client, selected: Selected, command: Fetch, uids: list[int]) -> list[int]:
    assert command.changed_since is not None
    changes = selected.mailbox.changes(command.changed_since)
    if command.vanished and (gone := vanished_since(changes, selected.view, command.set)):
        client.send(b"* VANISHED (EARLIER) %b\r\n" % gone)
    changed = {uid for uid, _, _ in changes.flags}
    return [uid for uid in uids if uid in changed]


def _mark_seen(client: Client, selected: Selected, uids: list[int], items: list[Any]) -> None:
    unseen = [int(uid) for uid, flags in selected.mailbox.rows(uids, ("uid", "flags")) if "\\Seen" not in str(flags)]
    if not unseen:
        return
    client.tell_flags(selected.mailbox.store(unseen, "+", ("\\Seen",)).changed, silent=True)
    if Attribute("FLAGS") not in items:
        items.append(Attribute("FLAGS"))


def _print(client: Client, selected: Selected, uids: Sequence[int], items: Sequence[Any]) -> int:
    """Answers; returns how many messages were gone."""
    attributes = [item.name for item in items if isinstance(item, Attribute)]
    sections = [item for item in items if isinstance(item, Section)]
    columns = ["uid", *(_PRINTED[name][0] for name in attributes)]
    printers = [_PRINTED[name][1] for name in attributes]
    recent_at = attributes.index("FLAGS") + 1 if "FLAGS" in attributes and selected.view.recent else 0
    gone = 0
    for some in _portions(uids):
        found = selected.mailbox.rows(some, columns)
        gone += len(some) - len(found)
        for row in found:
            if recent_at:
                row = (*row[:recent_at], selected.view.flags(row[0], row[recent_at]), *row[recent_at + 1 :])
            words = [printer(value) for printer, value in zip(printers, row[1:], strict=True)]
            try:
                words += _sections(selected, row[0], sections) if sections else ()
            except ExpungedError:
                gone += 1
                continue
            number = selected.view.number(row[0])
            client.send(b"* %d FETCH (%b)\r\n" % (number, b" ".join(words)))
    return gone


def _sections(selected: Selected, uid: int, sections: Sequence[Section]) -> Iterator[bytes]:
    raw = selected.mailbox.raw(uid)
    root: Part | None = None
    for section in sections:
        if root is None and (section.part or section.text):
            root = parse(raw)
        found = octets(raw, section, root)
        if section.kind == "BINARY.SIZE":
            yield b"%b %d" % (section.label, len(found or b""))
        elif found is None:
            yield b"%b NIL" % section.label
        elif section.kind == "BINARY" and b"\0" in found:
            yield b"%b ~%b" % (section.label, literal(found))
        else:
            yield b"%b %b" % (section.label, literal(found))


def _portions(uids: Sequence[int]) -> Iterator[Sequence[int]]:
    for at in range(0, len(uids), _PORTION):
        yield uids[at : at + _PORTION]


HANDLERS: dict[str, Handler] = {"FETCH": fetch, "UID FETCH": fetch}
