"""FETCH (RFC 9051 §6.4.5)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mailguard.model.mime import Part, parse
from mailguard.protocol.imap.fetch import Attribute, Fetch, Item, Section
from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.response import internal_date
from mailguard.protocol.imap.section import octets
from mailguard.protocol.imap.text import quoted
from mailguard.protocol.imap.view import View
from mailguard.server.imap_client import Client, Done, Handler, Selected
from mailguard.server.imap_mailboxes import vanished_since
from mailguard.store.content import with_crlf
from mailguard.store.mailbox import Mailbox
from mailguard.store.snapshot import ExpungedError

_PORTION = 1_000  # messages asked of the index at a time
_READ = 1 << 20  # octets read of a file at a time


_GONE = CommandError("some of the messages are gone", status="NO", code="EXPUNGEISSUED")


def _itself(value: Any) -> Any:
    return value


# How each item is printed: its column, its text, and what turns the column's value into what the text takes. Octets
# travel as latin-1 text until the whole answer is encoded.
_PRINTED: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    "UID": ("uid", "UID %d", _itself),
    "FLAGS": ("flags", "FLAGS (%s)", _itself),
    "INTERNALDATE": ("date", "INTERNALDATE %s", internal_date),
    "RFC822.SIZE": ("size", "RFC822.SIZE %d", _itself),
    "MODSEQ": ("modseq", "MODSEQ (%d)", _itself),
    "SAVEDATE": ("saved", "SAVEDATE %s", internal_date),
    "ENVELOPE": ("envelope", "ENVELOPE %s", _itself),
    "BODYSTRUCTURE": ("bodystructure", "BODYSTRUCTURE %s", _itself),
    "BODY": ("body", "BODY %s", _itself),
    "PREVIEW": ("preview", "PREVIEW %s", lambda value: quoted(value.encode("utf-8", "replace")).decode("latin-1")),
    "EMAILID": ("email_id", "EMAILID (%s)", _itself),
    "THREADID": ("uid", "THREADID NIL%.0s", _itself),
}


def fetch(client: Client, command: Fetch) -> Done:
    """FETCH and UID FETCH."""
    selected = client.selected
    items = list(command.items)
    if Attribute("MODSEQ") in items or command.changed_since is not None:
        client.enable_condstore()
    if command.vanished and "QRESYNC" not in client.session.enabled:
        raise CommandError("VANISHED needs QRESYNC enabled (RFC 7162 §3.2.6)")
    if command.changed_since is not None:
        uids = _changed(client, selected, command)
    else:
        uids = selected.resolve(command.set, command.uid)
        if command.partial is not None:
            uids = window(uids, command.partial)
    read = [item for item in items if isinstance(item, Section) and not item.peek]
    if read and not selected.read_only:
        _mark_seen(client, selected, uids, items)
    if client.condstore and Attribute("FLAGS") in items and Attribute("MODSEQ") not in items:
        items.append(Attribute("MODSEQ"))
    trouble = print_messages(client, uids, items)
    if trouble is not None and not (command.uid and trouble is _GONE):
        raise trouble
    return Done()


def window(uids: Sequence[int], partial: tuple[int, int]) -> list[int]:
    """PARTIAL's part of a list: ``1:500`` from the start, ``-1:-100`` from the end, in mailbox order."""
    first, last = partial
    if first > 0:
        return list(uids[first - 1 : last])
    return list(uids[max(0, len(uids) + last) : len(uids) + first + 1])


def _changed(client: Client, selected: Selected, command: Fetch) -> list[int]:
    """Few as a rule, of many: the cost must not grow with the mailbox."""
    assert command.changed_since is not None
    changes = selected.mailbox.changes(command.changed_since)
    if command.vanished and (gone := vanished_since(changes, selected.view, command.set)):
        client.send(b"* VANISHED (EARLIER) %b\r\n" % gone)
    uids = [uid for uid, _, _ in changes.flags]
    if command.partial is None:
        return selected.view.within(command.set, command.uid, uids)
    part = set(window(selected.resolve(command.set, command.uid), command.partial))
    return [uid for uid in uids if uid in part]


def _mark_seen(client: Client, selected: Selected, uids: list[int], items: list[Any]) -> None:
    unseen = [int(uid) for uid, flags in selected.mailbox.rows(uids, ("uid", "flags")) if "\\Seen" not in str(flags)]
    if not unseen:
        return
    client.tell_flags(selected.mailbox.store(unseen, "+", ("\\Seen",)).changed, silent=True)
    if Attribute("FLAGS") not in items:
        items.append(Attribute("FLAGS"))


def print_messages(client: Client, uids: Sequence[int], items: Sequence[Item]) -> CommandError | None:
    """Answers; returns what went wrong with some of the messages."""
    attributes = [item.name for item in items if isinstance(item, Attribute)]
    sections = [item for item in items if isinstance(item, Section)]
    columns = ["uid", *(_PRINTED[name][0] for name in attributes)]
    changes = [(at, _PRINTED[name][2]) for at, name in enumerate(attributes, 1) if _PRINTED[name][2] is not _itself]
    selected, view = client.selected, client.selected.view
    recent_at = attributes.index("FLAGS") + 1 if "FLAGS" in attributes and view.recent else 0
    form = " ".join(_PRINTED[name][1] for name in attributes)
    if sections:
        columns += ["about", "name"]
    trouble: CommandError | None = None
    for at in range(0, len(uids), _PORTION):
        some = uids[at : at + _PORTION]
        recent = recent_at > 0 and not view.recent.isdisjoint(some)
        if recent and view.recent.issuperset(some):
            rows = selected.mailbox.rows(some, ["recent_flags" if name == "flags" else name for name in columns])
            recent = False
        else:
            rows = selected.mailbox.rows(some, columns)
        if len(rows) < len(some):
            trouble = _GONE
        if changes or recent:
            rows = _changed_rows(rows, changes, recent_at * recent, view)
        numbered = zip(view.numbers([row[0] for row in rows]), rows, strict=True)
        if sections:
            for number, row in numbered:
                try:
                    _print_sections(client, number, form % row[1:-2], row[0], row[-2], row[-1], sections)
                except ExpungedError:
                    trouble = _GONE
                except CommandError as error:
                    trouble = error
        else:
            line = f"* %d FETCH ({form})\r\n"
            client.send("".join([line % (number, *row[1:]) for number, row in numbered]).encode("latin-1", "replace"))
    return trouble


def _changed_rows(
    rows: Sequence[tuple[Any, ...]], changes: list[tuple[int, Callable[[Any], Any]]], recent_at: int, view: View
) -> list[tuple[Any, ...]]:
    columns: list[Iterable[Any]] = list(zip(*rows, strict=True))
    for at, change in changes if rows else ():
        columns[at] = map(change, columns[at])
    if recent_at and rows:
        columns[recent_at] = list(map(view.flags, columns[0], columns[recent_at]))
    return list(zip(*columns, strict=True))


def _print_sections(
    client: Client, number: int, words: str, uid: int, size: int, name: str | bytes, sections: Sequence[Section]
) -> None:
    """Answers one message. Raises ExpungedError, or CommandError where a part cannot be decoded."""
    raw = read(client.selected.mailbox, uid, size, name)
    root: Part | None = None
    out = [b"* %d FETCH (%b" % (number, words.encode("latin-1", "replace"))]
    before = b" " if words else b""
    for section in sections:
        if root is None and (section.part or section.text):
            root = parse(raw)
        found = octets(raw, section, root)
        label = before + section.label
        before = b" "
        if section.kind == "BINARY.SIZE":
            out.append(b"%b %d" % (label, len(found or b"")))
        elif found is None:
            out.append(label + b" NIL")
        else:
            sign = b""
            if b"\0" in found:  # which a plain literal may not hold (RFC 9051 §4.3)
                sign, found = (b"~", found) if section.kind == "BINARY" else (b"", found.replace(b"\0", b"\x80"))
            out += (b"%b %b{%d}\r\n" % (label, sign, len(found)), found)
    out.append(b")\r\n")
    client.send(b"".join(out))


def read(mailbox: Mailbox, uid: int, size: int, name: str | bytes) -> bytes:
    """A message in CRLF form, of ``size`` octets, or somewhat less if it is negative, from the file that had this name
    a moment ago. Raises ExpungedError."""
    try:
        descriptor = os.open(mailbox.place(name), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # renamed since
        return mailbox.raw(uid)
    try:
        data = os.read(descriptor, abs(size) + 1)
        while len(data) > abs(size) and (more := os.read(descriptor, _READ)):
            data += more
    finally:
        os.close(descriptor)
    return data if len(data) == size else with_crlf(data)


HANDLERS: dict[str, Handler] = {"FETCH": fetch, "UID FETCH": fetch}
