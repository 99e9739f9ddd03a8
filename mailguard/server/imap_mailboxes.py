"""SELECT and what is done to mailboxes as a whole (RFC 9051 §6.3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mailguard.protocol.imap.arguments import Create, Names, Resync, Select, Status, Words
from mailguard.protocol.imap.command import SPECIAL_USES
from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.response import flags_line, list_line, status_line
from mailguard.protocol.imap.sequence import SequenceSet, render_set
from mailguard.protocol.imap.view import SYSTEM, View
from mailguard.server.imap_client import Client, Done, Handler, Selected, usual_form
from mailguard.store.account import SEPARATOR, MailboxExistsError, MailboxNameError
from mailguard.store.annotation import Annotations
from mailguard.store.mailbox import Mailbox
from mailguard.store.share import NAMESPACE
from mailguard.store.snapshot import Changes, NoSuchMailboxError
from mailguard.store.snapshot import Status as MailboxStatus

_LARGE = 20_000  # messages in a mailbox whose first unseen one is not looked for
_ENABLED = {"CONDSTORE": "CONDSTORE", "QRESYNC": "QRESYNC", "UTF8=ACCEPT": "UTF8=ACCEPT", "IMAP4REV2": "IMAP4rev2"}


def select(client: Client, command: Select) -> Done:
    """SELECT and EXAMINE."""
    if command.resync is not None and "QRESYNC" not in client.session.enabled:
        raise CommandError("QRESYNC must be enabled first (RFC 7162 §3.2.5)")
    if client.session.state.name == "SELECTED":
        client.select(None)
        client.send(b"* OK [CLOSED] the mailbox before is closed\r\n")
    if command.condstore or command.resync:
        client.enable_condstore()
    mailbox = client.mailbox(command.mailbox)
    recent_after = None if command.read_only else mailbox.claim_recent()
    status = mailbox.status()
    after = status.uid_next - 1 - status.recent if recent_after is None else recent_after
    rev2 = "IMAP4REV2" in client.session.enabled
    view = View(
        None if status.messages else [],
        status.highest_modseq,
        mailbox.keywords(),
        count=status.messages,
        load=lambda: uids_at(mailbox, status),
    )
    if not rev2 and status.messages and status.uid_next - 1 > after:
        view.recent = {uid for uid in view.uids if uid > after}
    selected = Selected(mailbox, view, command.read_only, status.uid_validity)
    flags = (*SYSTEM, *view.keywords)
    permanent = () if command.read_only else (*flags, "\\*")
    client.send(flags_line(flags))
    client.send(b"* OK [PERMANENTFLAGS (%b)] what can be kept\r\n" % " ".join(permanent).encode())
    client.send(b"* %d EXISTS\r\n" % view.count)
    if not rev2:
        client.send(b"* %d RECENT\r\n" % len(view.recent))
        if first := first_unseen(mailbox, view, status):
            client.send(b"* OK [UNSEEN %d] the first unseen message\r\n" % first)
    client.send(b"* OK [UIDVALIDITY %d] UIDs are valid\r\n" % status.uid_validity)
    client.send(b"* OK [UIDNEXT %d] the next UID\r\n" % status.uid_next)
    client.send(b"* OK [HIGHESTMODSEQ %d] changes are counted\r\n" % status.highest_modseq)
    client.send(b"* OK [MAILBOXID (%b)] its id\r\n" % status.mailbox_id.encode())
    if rev2:
        tell_name(client, client.settled(command.mailbox), command.mailbox)
    client.select(selected)
    if command.resync is not None:
        resynchronise(client, selected, command.resync)
    mode = "READ-ONLY" if command.read_only else "READ-WRITE"
    return Done(f"{command.mailbox.encode('ascii', 'replace').decode()} selected", mode)


def tell_name(client: Client, name: str, asked: str) -> None:
    """A LIST line for a client of IMAP4rev2, with what it called the mailbox if that is another form of its name."""
    old = b' ("OLDNAME" (%b))' % client.printed(asked) if name != asked else b""
    client.send(list_line(b"LIST", client.printed(name), (), SEPARATOR, old))


def uids_at(mailbox: Mailbox, status: MailboxStatus) -> list[int]:
    """The UIDs that there were when the status was taken; what happened since is told by the next sync."""
    uids = [uid for uid in mailbox.uids() if uid < status.uid_next]
    gone = [uid for uid in mailbox.changes(status.highest_modseq).vanished if uid < status.uid_next]
    return sorted({*uids, *gone}) if gone else uids


def first_unseen(mailbox: Mailbox, view: View, status: MailboxStatus) -> int:
    """The number of the first message without \\Seen; 0 if there is none, or if finding it is not worth the time."""
    if not status.unseen or status.unseen == status.messages:
        return 1 if status.unseen else 0
    if status.messages > _LARGE:
        return 0
    for at in range(0, view.count, 500):
        for uid, flags in mailbox.rows(view.uids[at : at + 500], ("uid", "flags")):
            if "\\Seen" not in flags:
                return view.number(uid)
    return 0


def resynchronise(client: Client, selected: Selected, known: Resync) -> None:
    """Tells what vanished and what changed since the client's last visit (RFC 7162 §3.2.5)."""
    if known.uid_validity != selected.uid_validity:
        return
    changes = selected.mailbox.changes(known.modseq)
    view = selected.view
    vanished = vanished_since(changes, view, known.known_uids)
    if vanished:
        client.send(b"* VANISHED (EARLIER) %b\r\n" % vanished)
    rows = changes.flags
    if known.known_uids is not None:
        wanted = set(known.known_uids.uids([uid for uid, _, _ in rows]))
        rows = [row for row in rows if row[0] in wanted]
    for line in view.changed(rows, modseq=True):
        client.send(line)


def vanished_since(changes: Changes, view: View, known: SequenceSet | None) -> bytes:
    """The UIDs that went, of those the client knew, as a set; where nobody remembers, all that are not there."""
    if changes.complete:
        gone = sorted(uid for uid in changes.vanished if not view.number(uid))
        return render_set(gone if known is None else known.uids(gone)).encode()
    last = view.last
    asked = known.resolved(last) if known is not None else [(1, last)]
    # An end far beyond our UIDs says nothing that a client could use.
    missing = (u for low, high in asked for u in range(low, min(high, last) + 1) if not view.number(u))
    return render_set(missing).encode()


def close(client: Client, _: None) -> Done:
    """CLOSE: expunges without saying so."""
    if not client.selected.read_only:
        client.selected.mailbox.expunge()
    client.select(None)
    return Done("closed")


def unselect(client: Client, _: None) -> Done:
    """UNSELECT: leaves everything as it is (RFC 3691)."""
    client.select(None)
    return Done("unselected")


def refuses_names(action: Callable[[Client, Any], Done | None]) -> Callable[[Client, Any], Done | None]:
    """Turns what a store says of names into NO with the response code for it."""

    def wrapped(client: Client, command: Any) -> Done | None:
        try:
            return action(client, command)
        except NoSuchMailboxError as error:
            raise CommandError(str(error), status="NO", code="NONEXISTENT") from None
        except MailboxExistsError as error:
            raise CommandError(str(error), status="NO", code="ALREADYEXISTS") from None
        except MailboxNameError as error:
            raise CommandError(str(error), status="NO", code="CANNOT") from None

    return wrapped


@refuses_names
def create(client: Client, command: Create) -> Done:
    """CREATE."""
    usual = {use.lower(): use for use in SPECIAL_USES}
    if unknown := [use for use in command.uses if use.lower() not in usual]:
        raise CommandError(f"no mailbox can be {unknown[0]} here", status="NO", code="USEATTR")
    asked = command.mailbox.removesuffix(SEPARATOR)
    name = usual_form(asked)
    if name.upper() == "INBOX":
        raise CommandError("INBOX exists already", status="NO", code="ALREADYEXISTS")
    client.store.create(name, " ".join(usual[use.lower()] for use in command.uses))
    identity = client.store.mailbox(name).status().mailbox_id
    if name != asked and "IMAP4REV2" in client.session.enabled:
        tell_name(client, name, asked)
    return Done("created", f"MAILBOXID ({identity})")


@refuses_names
def delete(client: Client, command: Names) -> None:
    """DELETE."""
    name = client.settled(command.mailbox)
    client.demand(name, "x")
    client.store.delete(name)
    Annotations(client.store.root).rename(name, None)


@refuses_names
def rename(client: Client, command: Names) -> None:
    """RENAME."""
    old = client.settled(command.mailbox)
    client.demand(old, "x")
    new = usual_form(command.other.removesuffix(SEPARATOR))
    client.store.rename(old, new)
    if old != "INBOX":
        Annotations(client.store.root).rename(old, new)


@refuses_names
def subscribe(client: Client, command: Names) -> None:
    """SUBSCRIBE."""
    client.store.subscribe(client.settled(command.mailbox.removesuffix(SEPARATOR)))


@refuses_names
def unsubscribe(client: Client, command: Names) -> None:
    """UNSUBSCRIBE."""
    client.store.unsubscribe(client.settled(command.mailbox.removesuffix(SEPARATOR)))


def status(client: Client, command: Status) -> None:
    """STATUS."""
    if "HIGHESTMODSEQ" in command.items:
        client.enable_condstore()
    client.send(status_answer(client, command.mailbox, command.items))


def status_answer(client: Client, name: str, items: tuple[str, ...]) -> bytes:
    """The STATUS line of a mailbox. Raises CommandError."""
    mailbox = client.mailbox(name)
    found = mailbox.status()
    doomed = mailbox.deleted_size() if found.deleted and "DELETED-STORAGE" in items else 0
    values: dict[str, int | bytes] = {
        "MESSAGES": found.messages, "RECENT": found.recent, "UIDNEXT": found.uid_next, "UNSEEN": found.unseen,
        "UIDVALIDITY": found.uid_validity, "DELETED": found.deleted, "SIZE": found.size,
        "HIGHESTMODSEQ": found.highest_modseq, "MAILBOXID": b"(%b)" % found.mailbox_id.encode(),
        "APPENDLIMIT": client.session.offer.append_limit, "DELETED-STORAGE": (doomed + 1023) // 1024,
    }  # fmt: skip
    return status_line(client.printed(name), [(item, values[item]) for item in items])


def namespace(client: Client, _: None) -> None:
    """NAMESPACE: the account's own mailboxes without a prefix, and those shared with it (RFC 2342)."""
    shared = f'(("{NAMESPACE}{SEPARATOR}" "{SEPARATOR}"))' if client.store.shares.accounts else "NIL"
    client.send(f'* NAMESPACE (("" "{SEPARATOR}")) NIL {shared}\r\n'.encode())


def enable(client: Client, command: Words) -> None:
    """ENABLE: unknown words are ignored (RFC 5161 §3.1)."""
    offered = {word.upper() for word in client.session.offer.capabilities} - client.session.offer.hidden
    fresh = [w for w in command.words if w in _ENABLED and w in offered and w not in client.session.enabled]
    for word in fresh:
        client.session.enabled.add(word)
        if word == "QRESYNC":
            client.session.enabled.add("CONDSTORE")
    client.send(f"* ENABLED{''.join(' ' + _ENABLED[word] for word in fresh)}\r\n".encode())


HANDLERS: dict[str, Handler] = {
    "SELECT": select, "EXAMINE": select, "CLOSE": close, "UNSELECT": unselect, "CREATE": create, "DELETE": delete,
    "RENAME": rename, "SUBSCRIBE": subscribe, "UNSUBSCRIBE": unsubscribe, "STATUS": status, "NAMESPACE": namespace,
    "ENABLE": enable,
}  # fmt: skip
