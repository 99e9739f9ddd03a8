"""The mailboxes of one account as Maildir++ folders (``.A.B`` below the INBOX), and those shared with it."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailguard.protocol.imap.mailboxname import decode_name, encode_name
from mailguard.store import durable, maildir
from mailguard.store.forget import forget_mailbox
from mailguard.store.grave import Grave
from mailguard.store.index import Index
from mailguard.store.mailbox import Mailbox
from mailguard.store.member import MemberMailbox
from mailguard.store.share import ALL_RIGHTS, NAMESPACE, Shares
from mailguard.store.snapshot import NoSuchMailboxError
from mailguard.store.subscription import (
    DEFAULT_USES,
    SEPARATOR,
    read_subscriptions,
    read_uses,
    write_subscriptions,
    write_uses,
)
from mailguard.store.watch import Bell, Registration

MAX_NAME = 254  # octets of a folder's name on disk


class MailboxNameError(ValueError):
    """No mailbox can have this name."""


class MailboxExistsError(ValueError):
    """There is one already."""


@dataclass(frozen=True, slots=True)
class MailboxInfo:
    """One line of LIST: ``exists`` is False for a name that only has mailboxes below it."""

    name: str
    exists: bool
    has_children: bool
    special_use: str
    subscribed: bool


class FolderTree:
    """The mailboxes of the account whose INBOX is the Maildir ``root``. ``grave`` keeps what is removed for a while."""

    def __init__(
        self, root: Path, index: Index, *, host: str, bell: Bell | None, log: Any, grave: Grave | None
    ) -> None:
        self.root = root
        self.shares = Shares()
        self.grave = grave
        self._log = log
        self._index = index
        self._host = maildir.host_part(host)
        self._bell = bell or Bell()
        self._lock = threading.Lock()
        self._mailboxes: dict[str, dict[str, Mailbox]] = {}  # by name and member
        self._unreadable: set[str] = set()  # folders that the log was told of

    def make(self, new_subscribed: Iterable[str]) -> None:
        """Makes the INBOX and these mailboxes, and subscribes to them."""
        names = list(new_subscribed)
        maildir.create(self.root)
        for name in names:
            with contextlib.suppress(MailboxExistsError):
                self.create(name)
        write_subscriptions(self.root, [*self.subscriptions(), *names])

    def admit(self, octets: int, messages: int) -> None:
        """Asks for room in the account before something is added."""

    def _path(self, name: str) -> Path:
        name = canonical(name)
        if name == "INBOX":
            return self.root
        parts = name.split(SEPARATOR)
        if parts[0] == NAMESPACE:
            raise MailboxNameError(f"{NAMESPACE!r} holds the mailboxes that are shared with the account, and no others")
        if not all(parts) or any(_bad(part) for part in parts):
            raise MailboxNameError(f"{name!r} cannot be a mailbox: no empty part, no dot, no control character")
        folder = "." + ".".join(encode_name(part) for part in parts)
        if len(folder) > MAX_NAME:
            raise MailboxNameError(f"the name is longer than {MAX_NAME} octets")
        return self.root / folder

    def folder_of(self, name: str) -> str:
        """The Maildir++ folder of a mailbox, ``""`` for the INBOX. Raises MailboxNameError."""
        path = self._path(name)
        return "" if path == self.root else path.name

    def mailbox(self, name: str, member: str = "") -> Mailbox:
        """The mailbox of this name; for a ``member`` of several with a \\Seen of his own, if one is named. Raises
        NoSuchMailboxError, MailboxNameError."""
        if shared := self.shares.find(name):
            return shared[0].mailbox(shared[1], self.shares.reader(name))
        path = self._path(name)
        if not maildir.is_maildir(path):
            raise NoSuchMailboxError(f"there is no mailbox {name!r}")
        with self._lock:
            known = self._mailboxes.setdefault(canonical(name), {})
            if member not in known:
                maildir.mend(path)
                place = (self._index, path, canonical(name), self._host, self._bell)
                made = MemberMailbox(*place, member) if member else Mailbox(*place)
                made.grave, made.admit, made.log = self.grave, self.admit, self._log
                known[member] = made
            return known[member]

    def rights(self, name: str) -> str:
        """What this account may do with a mailbox, in the letters of RFC 4314 §2.1."""
        shared = self.shares.find(name)
        return self.shares.rights(shared[1]) if shared else ALL_RIGHTS

    def names(self) -> list[str]:
        """Every mailbox that exists, INBOX first; folders whose names cannot be read are left out."""
        found = []
        for entry in os.scandir(self.root):
            if entry.name.startswith(".") and len(entry.name) > 1 and maildir.is_maildir(Path(entry.path)):
                name = self.name_in(entry.name)
                if name is not None:
                    found.append(name)
                elif entry.name not in self._unreadable and self._log is not None:
                    self._unreadable.add(entry.name)
                    text = "the name of a folder cannot be read, its mail is not shown: rename it"
                    self._log.warning(text, path=entry.path)
        return ["INBOX", *sorted(found)]

    @staticmethod
    def name_in(folder: str) -> str | None:
        """The name of the mailbox in this Maildir++ folder; None where it has none that can be told to clients."""
        try:
            parts = [decode_name(part) for part in folder[1:].split(".")]
        except ValueError:
            return None
        return SEPARATOR.join(parts) if all(parts) and not any(map(_bad, parts)) else None

    def listing(self) -> list[MailboxInfo]:
        """All mailboxes, those shared with the account too, and the names above them that are none themselves."""
        names = [*self.names(), *self._shared_names()]
        subscribed = set(self.subscriptions())
        uses = read_uses(self.root)
        parents = {
            SEPARATOR.join(parts[:n]) for parts in (m.split(SEPARATOR) for m in names) for n in range(1, len(parts))
        }
        existing = set(names)
        return [
            MailboxInfo(name, name in existing, name in parents, uses.get(name, ""), name in subscribed)
            for name in [*names, *sorted(parents - existing)]
        ]

    def _shared_names(self) -> Iterator[str]:
        for label, account in sorted(self.shares.accounts.items()):
            yield from (self.shares.name(label, inner) for inner in account.names())

    def used_for(self, name: str) -> str:
        """The mailbox meant by a usual name such as ``Junk``: the one its owner gave that special use, if it exists."""
        use = DEFAULT_USES.get(name)
        given = read_uses(self.root).items() if use else ()
        mailboxes = (other for other, uses in given if use in uses.split() and maildir.is_maildir(self._path(other)))
        return next(mailboxes, name)

    def create(self, name: str, special_use: str = "") -> None:
        """Raises MailboxExistsError, MailboxNameError. ``special_use`` are attributes of RFC 6154, by spaces."""
        name = name.removesuffix(SEPARATOR)
        if shared := self.shares.find(name):
            shared[0].create(shared[1])
            return
        path = self._path(name)
        if maildir.is_maildir(path):
            raise MailboxExistsError(f"mailbox {name!r} exists already")
        maildir.create(path)
        (path / "maildirfolder").touch()
        durable.sync_folder(self.root)
        if special_use:
            write_uses(self.root, read_uses(self.root) | {canonical(name): special_use})

    def delete(self, name: str) -> None:
        """Removes a mailbox and its mail; those below it stay. Raises NoSuchMailboxError, MailboxNameError."""
        if shared := self.shares.find(name):
            shared[0].delete(shared[1])
            return
        path = self.mailbox(name).path
        if path == self.root:
            raise MailboxNameError("INBOX cannot be deleted")
        if self.grave is not None:
            self.grave.bury_mailbox(path)
        else:
            # Renamed away first: nobody sees a half-deleted mailbox, and the rest can be done again.
            gone = self.root / "tmp" / maildir.unique_base(self._host, 0)
            os.rename(path, gone)
            shutil.rmtree(gone)
        self._forget(canonical(name))

    def rename(self, old: str, new: str) -> None:
        """With all mailboxes below it; renaming INBOX moves its messages and leaves it (RFC 9051 §6.3.6)."""
        here, there = self.shares.find(old), self.shares.find(new)
        if here and there and here[0] is there[0]:
            here[0].rename(here[1], there[1])
            return
        if here or there:
            raise MailboxNameError("a mailbox cannot be renamed into or out of a shared one; copy its messages")
        source = self.mailbox(old)
        if maildir.is_maildir(self._path(new)):
            raise MailboxExistsError(f"mailbox {new!r} exists already")
        if source.path == self.root:
            self.create(new)
            source.move(source.uids(), self.mailbox(new))
            return
        old, new = canonical(old), canonical(new)
        below = [name for name in self.names() if name == old or name.startswith(old + SEPARATOR)]
        moves = [(name, new + name[len(old) :]) for name in below]
        for name, renamed in moves:
            os.rename(self._path(name), self._path(renamed))
            self._forget(name, renamed)
        uses = read_uses(self.root)
        write_uses(self.root, {dict(moves).get(name, name): use for name, use in uses.items()})
        durable.sync_folder(self.root)

    def _forget(self, name: str, renamed: str = "") -> None:
        with self._lock:
            self._mailboxes.pop(name, None)
            self._mailboxes.pop(renamed, None)
        with self._index.write() as db:
            if renamed:
                db.execute("UPDATE OR REPLACE mailbox SET name = ? WHERE name = ?", (renamed, name))
                return
            row = db.execute("SELECT id FROM mailbox WHERE name = ?", (name,)).fetchone()
            if row:
                forget_mailbox(db, row[0])

    @staticmethod
    def mailbox_of(folder: str) -> str:
        """The name of the mailbox in this Maildir++ folder."""
        return SEPARATOR.join(decode_name(part) for part in folder.removeprefix(".").split("."))

    def listen_names(self, callback: Callable[[], object]) -> Registration:
        """Calls back when mailboxes, subscriptions or metadata may have changed (see ``Bell.register_entries``)."""
        return self._bell.register_entries(self.root, callback)

    def subscriptions(self) -> list[str]:
        """The names subscribed to."""
        return read_subscriptions(self.root)

    def subscribe(self, name: str) -> None:
        """Adds a name, whether it exists or not (RFC 9051 §6.3.7). Raises MailboxNameError."""
        if not self.shares.find(name):
            self._path(name)
        names = self.subscriptions()
        if canonical(name) not in names:
            write_subscriptions(self.root, [*names, canonical(name)])

    def unsubscribe(self, name: str) -> None:
        """Takes a name off the list."""
        write_subscriptions(self.root, [n for n in self.subscriptions() if n != canonical(name)])


def canonical(name: str) -> str:
    """INBOX in capitals, whatever its case (RFC 9051 §5.1); all other names as they are."""
    return "INBOX" if name.upper() == "INBOX" else name


def _bad(part: str) -> bool:
    # The dot is Maildir++'s separator; it has no escape there.
    return "." in part or part.startswith("~") or any(ord(c) < 32 or ord(c) == 127 for c in part)
