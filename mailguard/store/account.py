"""One user's mail: the mailboxes as Maildir++ folders (``.A.B`` below the INBOX), and delivery into them."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailguard.protocol.imap.mailboxname import decode_name, encode_name
from mailguard.store import content, maildir, uidlist
from mailguard.store.content import Described
from mailguard.store.index import Index, IndexTornError
from mailguard.store.mailbox import Mailbox
from mailguard.store.snapshot import NoSuchMailboxError
from mailguard.store.watch import Bell

SEPARATOR = "/"
MAX_NAME = 254  # octets of a folder's name on disk
SPECIAL_USE = {"Drafts": "\\Drafts", "Sent": "\\Sent", "Junk": "\\Junk", "Trash": "\\Trash", "Archive": "\\Archive"}
_UNCLAIMED = 30 * 86_400  # seconds; what was delivered and never seen in new went another way
_SUBSCRIPTIONS = "subscriptions"


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


class AccountStore:
    """The mail of one account. ``root`` is the Maildir of its INBOX, ``index`` the file of its cache."""

    def __init__(
        self,
        root: Path,
        index: Path,
        *,
        host: str = "",
        new_subscribed: Iterable[str] = SPECIAL_USE,
        bell: Bell | None = None,
        log: Any = None,
        keeps_text: bool = True,
    ) -> None:
        self.root = root
        self._log = log
        self._index = Index(index, log, keeps_text=keeps_text)
        self._host = maildir.host_part(host)
        self._bell = bell or Bell()
        self._lock = threading.Lock()
        self._mailboxes: dict[str, Mailbox] = {}
        self._sound: set[Path] = set()  # Maildirs that are complete
        if not maildir.is_maildir(root):
            self._first_time(list(new_subscribed))

    def _first_time(self, names: list[str]) -> None:
        maildir.create(self.root)
        for name in names:
            with contextlib.suppress(MailboxExistsError):
                self.create(name)
        self._write_subscriptions([*self.subscriptions(), *names])

    def close(self) -> None:
        """Closes the index."""
        self._index.close()

    def _path(self, name: str) -> Path:
        name = canonical(name)
        if name == "INBOX":
            return self.root
        parts = name.split(SEPARATOR)
        if not all(parts) or any(_bad(part) for part in parts):
            raise MailboxNameError(f"{name!r} cannot be a mailbox: no empty part, no dot, no control character")
        folder = "." + ".".join(encode_name(part) for part in parts)
        if len(folder) > MAX_NAME:
            raise MailboxNameError(f"the name is longer than {MAX_NAME} octets")
        return self.root / folder

    def mailbox(self, name: str) -> Mailbox:
        """The mailbox of this name. Raises NoSuchMailboxError, MailboxNameError."""
        path = self._path(name)
        if not maildir.is_maildir(path):
            raise NoSuchMailboxError(f"there is no mailbox {name!r}")
        with self._lock:
            name = canonical(name)
            if name not in self._mailboxes:
                maildir.mend(path)
                self._mailboxes[name] = Mailbox(self._index, path, name, self._host, self._bell)
            return self._mailboxes[name]

    def names(self) -> list[str]:
        """Every mailbox that exists, INBOX first; folders whose names cannot be read are left out."""
        found = []
        for entry in os.scandir(self.root):
            if entry.name.startswith(".") and len(entry.name) > 1 and maildir.is_maildir(Path(entry.path)):
                with contextlib.suppress(ValueError):
                    found.append(SEPARATOR.join(decode_name(part) for part in entry.name[1:].split(".")))
        return ["INBOX", *sorted(name for name in found if "" not in name.split(SEPARATOR))]

    def listing(self) -> list[MailboxInfo]:
        """All mailboxes, and the names above them that are none themselves."""
        names = self.names()
        subscribed = set(self.subscriptions())
        parents = {
            SEPARATOR.join(parts[:n]) for parts in (m.split(SEPARATOR) for m in names) for n in range(1, len(parts))
        }
        existing = set(names)
        return [
            MailboxInfo(name, name in existing, name in parents, SPECIAL_USE.get(name, ""), name in subscribed)
            for name in [*names, *sorted(parents - existing)]
        ]

    def create(self, name: str) -> None:
        """Raises MailboxExistsError, MailboxNameError."""
        path = self._path(name.removesuffix(SEPARATOR))
        if maildir.is_maildir(path):
            raise MailboxExistsError(f"mailbox {name!r} exists already")
        maildir.create(path)
        (path / "maildirfolder").touch()
        maildir.sync_folder(self.root)

    def delete(self, name: str) -> None:
        """Removes a mailbox and its mail; those below it stay. Raises NoSuchMailboxError, MailboxNameError."""
        path = self.mailbox(name).path
        if path == self.root:
            raise MailboxNameError("INBOX cannot be deleted")
        # Renamed away first: nobody sees a half-deleted mailbox, and the rest can be done again.
        grave = self.root / "tmp" / maildir.unique_base(self._host, 0)
        os.rename(path, grave)
        shutil.rmtree(grave)
        self._forget(canonical(name))

    def rename(self, old: str, new: str) -> None:
        """With all mailboxes below it; renaming INBOX moves its messages and leaves it (RFC 9051 §6.3.6)."""
        source = self.mailbox(old)
        if maildir.is_maildir(self._path(new)):
            raise MailboxExistsError(f"mailbox {new!r} exists already")
        if source.path == self.root:
            self.create(new)
            source.move(source.uids(), self.mailbox(new))
            return
        old, new = canonical(old), canonical(new)
        below = [name for name in self.names() if name == old or name.startswith(old + SEPARATOR)]
        moves = [(name, self._path(name), self._path(new + name[len(old) :])) for name in below]
        for name, path, target in moves:
            os.rename(path, target)
            self._forget(name)
        maildir.sync_folder(self.root)

    def _forget(self, name: str) -> None:
        with self._lock:
            self._mailboxes.pop(name, None)
        with self._index.write() as db:
            row = db.execute("SELECT id FROM mailbox WHERE name = ?", (name,)).fetchone()
            if row:
                for table, column in (("message", "id >> 32"), ("expunged", "id >> 32"), ("mailbox", "id")):
                    db.execute(f"DELETE FROM {table} WHERE {column} = ?", row)

    def tidy(self, *, now: float | None = None) -> None:
        """Housekeeping: what nobody needs any more goes from the index and from ``tmp``."""
        at = time.time() if now is None else now
        with self._index.write() as db:
            content.sweep(db, before=at - _UNCLAIMED)
            self._index.texts.compact(db)
        for name in self.names():
            maildir.purge_tmp(self._path(name), now=at)

    def subscriptions(self) -> list[str]:
        """The names subscribed to, in Dovecot's file of version 1 or 2."""
        try:
            lines = (self.root / _SUBSCRIPTIONS).read_text("utf-8", "replace").split("\n")
        except FileNotFoundError:
            return []
        if lines[0] == "V\t2":
            return [line.replace("\t", SEPARATOR) for line in lines[2:] if line]
        names = []
        for line in filter(None, lines):
            with contextlib.suppress(ValueError):
                names.append(SEPARATOR.join(decode_name(part) for part in line.split(".")))
        return names

    def subscribe(self, name: str) -> None:
        """Adds a name, whether it exists or not (RFC 9051 §6.3.7)."""
        self._path(name)
        names = self.subscriptions()
        if canonical(name) not in names:
            self._write_subscriptions([*names, canonical(name)])

    def unsubscribe(self, name: str) -> None:
        """Takes a name off the list."""
        self._write_subscriptions([n for n in self.subscriptions() if n != canonical(name)])

    def _write_subscriptions(self, names: list[str]) -> None:
        lines = (name.replace(SEPARATOR, "\t") + "\n" for name in dict.fromkeys(names))
        uidlist.replace(self.root / _SUBSCRIPTIONS, "V\t2\n\n" + "".join(lines))

    def deliver(
        self, chunks: Sequence[bytes | memoryview], name: str = "INBOX", *, described: Described | None = None
    ) -> Path:
        """One new message, durable when this returns; its cost does not depend on the mailbox. A mailbox that
        should be there and is not is made. ``described`` is what ``content.read_at_delivery`` found, if it was asked.
        Raises OSError, leaving nothing behind."""
        path = self._deliverable(name)
        described = described or content.read_at_delivery(chunks)
        base = maildir.unique_base(self._host, sum(map(len, chunks)), wire_size=content.wire_size(chunks))
        spooled = maildir.write(path, base, chunks)
        self._announce(base, described)
        maildir.publish(spooled, path / "new" / base)
        self._bell.ring(path)
        return path / "new" / base

    def deliver_link(self, source: Path, name: str = "INBOX", *, described: Described | None = None) -> Path:
        """The same message once more, as a hard link to a file that is durable already. Raises OSError (EXDEV
        where the file lies on another file system)."""
        path = self._deliverable(name)
        size = maildir.stated_size(source.name)
        base = maildir.unique_base(self._host, source.stat().st_size, wire_size=size)
        os.link(source, path / "tmp" / base)
        self._announce(base, described)
        maildir.publish(path / "tmp" / base, path / "new" / base)
        self._bell.ring(path)
        return path / "new" / base

    def _announce(self, base: str, described: Described | None) -> None:
        """Tells the index what comes, so that its first reader need not; no message is refused for its sake."""
        if described is None:
            return
        try:
            with self._index.write() as db:
                content.announce(db, base, described, time.time())
        except (sqlite3.Error, IndexTornError, OSError) as error:
            if self._log is not None:
                self._log.warning("the index did not take a message, its first reader will", error=str(error))

    def _deliverable(self, name: str) -> Path:
        path = self._path(name)
        if not maildir.is_maildir(path):
            self.create(name)
        elif path not in self._sound:
            maildir.mend(path)
            self._sound.add(path)
        return path


def canonical(name: str) -> str:
    """INBOX in capitals, whatever its case (RFC 9051 §5.1); all other names as they are."""
    return "INBOX" if name.upper() == "INBOX" else name


def _bad(part: str) -> bool:
    # The dot is Maildir++'s separator; it has no escape there.
    return "." in part or part.startswith("~") or any(ord(c) < 32 or ord(c) == 127 for c in part)
