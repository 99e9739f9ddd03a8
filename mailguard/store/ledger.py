"""What an import has done already: it can be stopped at any moment and goes on where it was, without doubles."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from mailguard.model.foreign import Foreign
from mailguard.store.account import AccountStore
from mailguard.store.content import email_id
from mailguard.store.folder import MailboxExistsError
from mailguard.store.snapshot import NewMessage

_BATCH = 64  # messages, or
_BATCH_OCTETS = 8 << 20


class Ledger:
    """A file with a line for each message that came over from one source."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._resumed = path.exists()  # even if it is empty: the first batch may have come without its lines
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115
        self._file.seek(0)
        lines = self._file.read().split(b"\n")
        if lines[-1]:
            self._file.truncate(self._file.tell() - len(lines.pop()))  # torn: that one may come again, see below
        self.done = {line.decode("utf-8", "surrogateescape") for line in lines if line}
        self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Closes the file; it stays, so that the same import may be started again later and takes what is new."""
        self._file.close()

    def add(self, account: AccountStore, name: str, messages: Iterable[Foreign], step: Callable[[], None]) -> int:
        """Adds messages to a mailbox, which is made if need be; returns how many were added. Raises OSError,
        OverQuotaError."""
        with contextlib.suppress(MailboxExistsError):
            account.create(name)
        batch: list[Foreign] = []
        count, size, first = 0, 0, True
        for message in messages:
            batch.append(message)
            size += len(message.raw)
            if len(batch) >= _BATCH or size > _BATCH_OCTETS:
                count += self._commit(account, name, batch, check=first)
                batch, size, first = [], 0, False
            step()
        return count + (self._commit(account, name, batch, check=first) if batch else 0)

    def _commit(self, account: AccountStore, name: str, batch: list[Foreign], *, check: bool) -> int:
        mailbox = account.mailbox(name)
        fresh = batch
        if check and self._resumed:
            # The last batch before a crash may be there without its lines.
            there = {id for (id,) in mailbox.rows(None, ("email_id",))}
            fresh = [message for message in batch if email_id(message.raw) not in there]
        if fresh:
            mailbox.append([NewMessage([m.raw], m.flags, m.date) for m in fresh])
        lines = "".join(f"{message.id}\n" for message in batch)
        self._file.write(lines.encode("utf-8", "surrogateescape"))
        os.fsync(self._file.fileno())
        self.done.update(message.id for message in batch)
        return len(fresh)
