"""One user's mail: its mailboxes, what it may hold, how it is delivered, and how what was removed comes back."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from operator import add
from pathlib import Path
from typing import Any

from mailguard.store import content, durable, maildir
from mailguard.store.announcer import Announcer
from mailguard.store.folder import FolderTree, MailboxExistsError, MailboxInfo, MailboxNameError
from mailguard.store.grave import Buried, Grave
from mailguard.store.index import Index
from mailguard.store.quota import Limits, OverQuotaError, Quota
from mailguard.store.roster import Rosters
from mailguard.store.snapshot import NoSuchMailboxError
from mailguard.store.subscription import DEFAULT_USES, SEPARATOR
from mailguard.store.watch import Bell

__all__ = ["SEPARATOR", "SPECIAL_USE", "AccountStore", "MailboxExistsError", "MailboxInfo", "MailboxNameError"]

SPECIAL_USE = DEFAULT_USES
_UNCLAIMED = 30 * 86_400  # seconds; what was delivered and never seen in new went another way
_USAGE = 1.0  # seconds for which a sum of all mailboxes holds where there is room enough:
_ROOM = 10  # percent of the limits; with less, what other processes may have taken since is asked for


class AccountStore(FolderTree):
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
        grace: float = 0,
        limits: Limits | None = None,
        announcer: Announcer | None = None,
        rosters: Rosters | None = None,
    ) -> None:
        super().__init__(
            root,
            Index(index, log, keeps_text=keeps_text, rosters=rosters),
            host=host,
            bell=bell,
            log=log,
            grave=Grave(root) if grace else None,
        )
        self.limits = limits or Limits()
        self._grace = grace
        self._announcer = announcer or Announcer(log)
        self._sound: set[Path] = set()  # Maildirs that are complete
        self._usage: tuple[float, int, int] = (0.0, 0, 0)  # when it was summed up, octets, messages
        if not maildir.is_maildir(root):
            self.make(new_subscribed)

    @property
    def keeps_text(self) -> bool:
        """Whether the text of messages is kept for searching."""
        return self._index.keeps_text

    def close(self) -> None:
        """Closes the index."""
        self._index.close()

    def quota(self) -> Quota:
        """What the account holds, and may hold."""
        for name in self.names():
            with contextlib.suppress(NoSuchMailboxError):
                self.mailbox(name).refresh()
        with self._index.read() as db:
            row = db.execute("SELECT coalesce(sum(size), 0), coalesce(sum(messages), 0) FROM mailbox").fetchone()
        self._usage = (time.monotonic(), *row)
        return self._quota()

    def _quota(self) -> Quota:
        _, octets, messages = self._usage
        return Quota(octets, self.limits.storage, messages, self.limits.messages)

    def has_room(self, octets: int, messages: int = 1) -> bool:
        """Whether so much more fits. Processes that ask at the same moment may all be told so: an account can be over
        its limits by what is on its way into it then. Besides, what others added in the last second is not counted
        unless it is nearly full."""
        if not (self.limits.storage or self.limits.messages):
            return True
        if self._usage[0] and time.monotonic() - self._usage[0] < _USAGE:
            spare = (limit * _ROOM // 100 for limit in (self.limits.storage, self.limits.messages))
            if self._quota().holds(*map(add, (octets, messages), spare)):
                return True
        return self.quota().holds(octets, messages)

    def admit(self, octets: int, messages: int) -> None:
        """Asks for room in the account, and takes it. Raises OverQuotaError."""
        if not self.has_room(octets, messages):
            raise OverQuotaError(self._quota())
        self._took(octets, messages)

    def _took(self, octets: int, messages: int) -> None:
        at, used, count = self._usage
        self._usage = (at, used + octets, count + messages)

    def undelete(self, buried: Sequence[Buried]) -> int:
        """Brings expunged messages back under new UIDs, where their mailboxes are gone into new ones; returns how
        many came. Raises OSError."""
        count = 0
        for folder in sorted({each.folder for each in buried}):
            name = self.mailbox_of(folder)
            with contextlib.suppress(MailboxExistsError):
                self.create(name)
            count += len(self.mailbox(name).take_in([each.path for each in buried if each.folder == folder]))
        return count

    def forget_descriptions(self) -> None:
        """Has every message read again; UIDs and MODSEQs stay as they are."""
        with self._index.write() as db:
            content.forget(db)
            db.execute("UPDATE mailbox SET scanned = 0, cur = '-'")
            self._index.texts.forget(db)

    def forget_index(self) -> None:
        """Throws the index away; processes that use it take the new one."""
        self._index.discard()

    def tidy(self, *, now: float | None = None) -> None:
        """Housekeeping: what nobody needs any more goes from the index and from ``tmp``."""
        at = time.time() if now is None else now
        with self._index.write() as db:
            content.sweep(db, before=at - _UNCLAIMED)
            self._index.texts.compact(db)
        for name in self.names():
            purged = maildir.purge_tmp(self._path(name), now=at)
            if purged and self._log is not None:
                self._log.info("removed what broken deliveries left in tmp", mailbox=name, files=purged)
        if self.grave is not None:
            self.grave.purge(at - self._grace)

    def deliver(
        self,
        chunks: Sequence[bytes | memoryview],
        name: str = "INBOX",
        *,
        ident: str = "",
        crlf: bool = False,
    ) -> str:
        """One new message, durable when this returns; its cost does not depend on the mailbox. Returns the path of its
        file. ``ident`` is its id in the log; ``crlf`` says that all its line ends are CRLF. A mailbox that should be
        there and is not is made. Raises OSError, leaving nothing behind."""
        path = self._deliverable(name)
        size = sum(map(len, chunks))
        wire_size = size if crlf else content.wire_size(chunks)
        base = maildir.unique_base(self._host, size, wire_size=wire_size, ident=ident)
        spooled, file = f"{path}/tmp/{base}", f"{path}/new/{base}"
        try:
            durable.put(spooled, file, chunks)
        except FileNotFoundError:  # somebody has removed the mailbox since it was looked at
            self._sound.discard(path)
            self._deliverable(name)
            durable.put(spooled, file, chunks)
        self._arrived(path, file)
        self._took(size, 1)
        return file

    def deliver_link(self, source: str, name: str = "INBOX", *, ident: str = "") -> str:
        """The same message once more, as a hard link to a file that is durable already. Raises OSError (EXDEV
        where the file lies on another file system)."""
        path = self._deliverable(name)
        base = maildir.unique_base(
            self._host, os.stat(source).st_size, wire_size=maildir.stated_size(source), ident=ident
        )
        file = f"{path}/new/{base}"
        durable.put_link(source, file)
        self._arrived(path, file)
        return file

    def _arrived(self, path: Path, file: str) -> None:
        """Tells the index, so that the first reader need not read the message, and those who wait for mail."""
        self._announcer.add(self._index, file)
        self._bell.ring(path)

    def _deliverable(self, name: str) -> Path:
        path = self._path(name)
        if path not in self._sound:
            if maildir.is_maildir(path):
                maildir.mend(path)
            else:
                self.create(name)
            self._sound.add(path)
        return path
