"""A signed-in client: its account, the mailbox it has selected, and how changes of others reach it."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mailguard.auth.accounts import Account
from mailguard.model.event import Event
from mailguard.protocol.imap.command import State
from mailguard.protocol.imap.context import Contexts
from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.response import mailbox_name
from mailguard.protocol.imap.sequence import SequenceSet
from mailguard.protocol.imap.session import ImapSession, Request
from mailguard.protocol.imap.view import View
from mailguard.store.account import SEPARATOR, AccountStore, MailboxNameError
from mailguard.store.mailbox import Mailbox
from mailguard.store.search import find
from mailguard.store.snapshot import NoSuchMailboxError
from mailguard.store.watch import Registration

FLUSH_AT = 65_536  # octets gathered before they are sent
NO_REQUEST = Request(b"", "", None)


def usual_form(name: str) -> str:
    """The form in which mailboxes are named: composed (Net-Unicode, RFC 9051 §5.1), INBOX in capitals above others."""
    name = unicodedata.normalize("NFC", name)
    return "INBOX" + name[5:] if name[:6].upper() == f"INBOX{SEPARATOR}" else name


@dataclass(frozen=True, slots=True)
class Done:
    """A command's success: the text and the response code of its tagged OK."""

    text: str = "done"
    code: str = ""


@dataclass(slots=True)
class Selected:
    """The selected mailbox."""

    mailbox: Mailbox
    view: View
    read_only: bool
    uid_validity: int

    def resolve(self, numbers: SequenceSet | None, uid: bool) -> list[int]:
        """The UIDs a set means. Raises CommandError."""
        return self.view.resolve(numbers, uid)


class Client:
    """One signed-in connection; every handler gets it. ``flush`` sends what is waiting, ``request`` is the command
    being carried out; ``contexts`` are the searches to be kept up to date, ``on_arrival`` is told the UIDs of new
    messages in the selected mailbox."""

    def __init__(
        self,
        session: ImapSession,
        account: Account,
        store: AccountStore,
        flush: Callable[[], None],
        emit: Callable[[Event], None],
        log: Any,
        now: Callable[[], float],
    ) -> None:
        self.session = session
        self.account = account
        self.store = store
        self.flush = flush
        self.emit = emit
        self.log = log
        self.now = now
        self.request = NO_REQUEST
        self._selected: Selected | None = None
        self._listening: list[Registration] = []
        self._heard: list[object] = []  # what is listened to
        self._watched: list[Mailbox] = []
        self._hears_names = False
        self._ring: Callable[[], None] | None = None
        self._tell: Callable[[], None] | None = None
        self.contexts = Contexts()
        self.on_arrival: Callable[[Sequence[int]], None] | None = None

    @property
    def notifies(self) -> bool:
        """Whether the client wants to hear of changes without asking or waiting in IDLE (NOTIFY)."""
        return self._tell is not None

    def watch(self, tell: Callable[[], None] | None, mailboxes: Sequence[Mailbox], *, names: bool = False) -> None:
        """From now on the selected mailbox is looked at whenever something changes there, in these mailboxes, or in
        the ``names`` of all, and ``tell`` is called with every look; None for the end of that."""
        self._tell = tell
        self._watched, self._hears_names = list(mailboxes), names
        if self._ring is not None and tell is not None:
            self.listen(self._ring)
        else:
            self.stop_listening()

    def is_selected(self, mailbox: Mailbox) -> bool:
        """Whether this is the selected mailbox."""
        return self._selected is not None and self._selected.mailbox is mailbox

    def listen(self, ring: Callable[[], None]) -> None:
        """From now on ``ring`` is called whenever something may have changed that the client wants to hear of."""
        self._ring = ring
        mailboxes = [*self._watched, *([self._selected.mailbox] if self._selected is not None else ())]
        wanted = [self._hears_names, *(str(mailbox.path) for mailbox in mailboxes)]
        if wanted == self._heard:
            return
        self.stop_listening()
        self._heard = wanted
        self._listening = [mailbox.listen(ring) for mailbox in mailboxes]
        if self._hears_names:
            self._listening.append(self.store.listen_names(ring))

    def stop_listening(self) -> None:
        """The end of that."""
        for registration in self._listening:
            registration.close()
        self._listening, self._heard = [], []

    def rest(self) -> None:
        """Keeps less in memory until the next command."""
        if self._selected is not None:
            self._selected.view.rest()

    def send(self, data: bytes) -> None:
        """An untagged answer; what has gathered is sent from time to time."""
        self.session.send(data)
        if self.session.output_size > FLUSH_AT:
            self.flush()

    @property
    def selected(self) -> Selected:
        """The selected mailbox; commands that need one are only let through with one."""
        if self._selected is None:
            raise CommandError("no mailbox is selected")
        return self._selected

    @property
    def lost(self) -> bool:
        """Whether the folder of the selected mailbox is gone."""
        try:
            if self._selected is not None:
                self._selected.mailbox.must_exist()
        except NoSuchMailboxError:
            return True
        return False

    @property
    def writable(self) -> Selected:
        """The selected mailbox, for a command that changes it."""
        if self.selected.read_only:
            raise CommandError("the mailbox is selected read-only", status="NO", code="NOPERM")
        return self.selected

    def select(self, selected: Selected | None) -> None:
        """Changes the selected mailbox; None for none."""
        self._selected = selected
        self.contexts.clear()
        self.session.state = State.SELECTED if selected else State.AUTHENTICATED

    def printed(self, name: str) -> bytes:
        """A mailbox name for an answer."""
        return mailbox_name(name, utf8=self.session.utf8)

    def mailbox(self, name: str, code: str = "NONEXISTENT") -> Mailbox:
        """Raises CommandError (NO) where there is none."""
        try:
            return self.store.mailbox(self.settled(name))
        except NoSuchMailboxError as error:
            raise CommandError(str(error), status="NO", code=code) from None
        except MailboxNameError as error:
            raise CommandError(str(error), status="NO", code="CANNOT") from None

    def settled(self, name: str) -> str:
        """The name of a mailbox in the form it has here: the usual one, or another if another program chose that."""
        usual = usual_form(name)
        return name if usual == name or name in self.store.names() else usual

    def demand(self, name: str, right: str) -> None:
        """Raises CommandError (NO [NOPERM]) unless the client has this right (RFC 4314 §2.1) on a mailbox."""
        if right not in self.store.rights(name):
            raise CommandError(f"you may not do that to {name!r}", status="NO", code="NOPERM")

    @property
    def condstore(self) -> bool:
        """Whether FETCH answers carry MODSEQ."""
        return bool(self.session.enabled & {"CONDSTORE", "QRESYNC"})

    def enable_condstore(self) -> None:
        """By use (RFC 7162 §3.1): the first time HIGHESTMODSEQ is told if a mailbox is selected."""
        if not self.condstore:
            self.session.enabled.add("CONDSTORE")
            if self._selected is not None:
                self.send(b"* OK [HIGHESTMODSEQ %d] changes are counted\r\n" % self._selected.view.modseq)

    def sync(self, *, expunges: bool = True) -> None:
        """Tells the client what changed in the selected mailbox; without ``expunges`` message numbers stay,
        and what other programs did a moment ago may come later."""
        if self._tell is not None:
            self._tell()
        selected = self._selected
        if selected is None:
            return
        view, mailbox = selected.view, selected.mailbox
        try:
            changes = mailbox.changes(view.modseq, fresh=expunges)
        except NoSuchMailboxError:
            self.session.close("the mailbox is gone")
            return
        if changes.vanished:
            view.gone += view.known(changes.vanished)
        if expunges and view.gone:
            gone, view.gone = view.gone, []
            self.session.send_all(self.contexts.removed(view, gone))
            self.session.send_all(view.expunge(gone, vanished="QRESYNC" in self.session.enabled))
        if changes.flags:
            before, last = view.count, view.last
            if changes.flags[-1][0] > last and view.arrived([row[0] for row in changes.flags]):
                self._arrivals(selected, before)
            known = [row for row in changes.flags if row[0] <= last] if changes.flags[-1][0] > last else changes.flags
            self.session.send_all(view.changed(known, modseq=self.condstore))
        if self.contexts:
            uids = [row[0] for row in changes.flags]
            self.session.send_all(self.contexts.changed(view, uids, lambda key: find(mailbox, key, self.now())))
        view.modseq = max(view.modseq, changes.highest_modseq)
        view.told.clear()

    def _arrivals(self, selected: Selected, before: int) -> None:
        view = selected.view
        self.session.send(b"* %d EXISTS\r\n" % view.count)
        rev2 = "IMAP4REV2" in self.session.enabled
        if not selected.read_only and not rev2:
            after = selected.mailbox.claim_recent()
            view.recent.update(uid for uid in view.uids[before:] if uid > after)
        if not rev2:
            self.session.send(b"* %d RECENT\r\n" % len(view.recent))
        if self.on_arrival is not None:
            self.on_arrival(view.uids[before:])

    def tell_flags(self, changed: Sequence[tuple[int, str, int]], *, silent: bool = False, only: bool = False) -> None:
        """Answers flag changes that this client made itself; where ``only``, with their MODSEQ alone."""
        view = self.selected.view
        if only:
            uids = view.known([uid for uid, _, _ in changed])
            modseqs = {uid: modseq for uid, _, modseq in changed}
            text = b"* %d FETCH (UID %d MODSEQ (%d))\r\n"
            numbered = zip(view.numbers(uids), uids, strict=True)
            self.send(b"".join([text % (number, uid, modseqs[uid]) for number, uid in numbered]))
        elif not silent:
            for line in view.changed(changed, modseq=self.condstore):
                self.send(line)
        if not changed:
            return
        if self.contexts:
            self.contexts.touched.update(uid for uid, _, _ in changed)
        if max(modseq for _, _, modseq in changed) == view.modseq + 1:
            view.modseq += 1  # nobody else changed anything meanwhile: nothing more to look for
        else:
            view.told.update((uid, modseq) for uid, _, modseq in changed)


Handler = Callable[[Client, Any], Done | None]
"""Carries out one command; raises CommandError where it cannot."""
