"""The index of one account: a cache in SQLite of what its Maildirs say, shared by all processes of this machine.

Delete it at any time; the next look at each mailbox makes it again from the files."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from mailguard.store import content

VERSION = 2
_SCHEMA = """
CREATE TABLE mailbox (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, guid TEXT NOT NULL, uid_validity INTEGER NOT NULL,
  next_uid INTEGER NOT NULL, highest_modseq INTEGER NOT NULL, recent_uid INTEGER NOT NULL DEFAULT 0,
  stamp TEXT NOT NULL DEFAULT '', scanned REAL NOT NULL DEFAULT 0
);
CREATE TABLE message (
  mailbox INTEGER NOT NULL, uid INTEGER NOT NULL, base TEXT NOT NULL, folder TEXT NOT NULL, name TEXT NOT NULL,
  flags TEXT NOT NULL, modseq INTEGER NOT NULL, size INTEGER NOT NULL, date INTEGER NOT NULL, saved INTEGER NOT NULL,
  guid TEXT NOT NULL, uidl TEXT NOT NULL, cid INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;
CREATE INDEX message_modseq ON message (mailbox, modseq);
CREATE TABLE expunged (
  mailbox INTEGER NOT NULL, uid INTEGER NOT NULL, modseq INTEGER NOT NULL, PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;
"""


class Index:
    """One SQLite file, one connection for all threads of a process, used under ``lock``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._depth = 0

    @property
    def db(self) -> sqlite3.Connection:
        """The connection; opened, checked and if need be made anew at its first use. Hold ``lock``."""
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            return _connect(self.path)
        except sqlite3.DatabaseError:
            # Torn or of another version: it is only a cache.
            for suffix in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            return _connect(self.path)

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A write transaction; one inside another joins it."""
        with self.lock:
            outermost = self._depth == 0
            if outermost:
                self.db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield self.db
            except BaseException:
                if outermost:
                    self.db.execute("ROLLBACK")
                raise
            else:
                if outermost:
                    self.db.execute("COMMIT")
            finally:
                self._depth -= 1

    def close(self) -> None:
        """Closes the file."""
        with self.lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA cache_size=-2048")
    connection.execute("BEGIN IMMEDIATE")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 0:
        for statement in (_SCHEMA + content.SCHEMA).split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={VERSION}")
    connection.execute("COMMIT")
    if version not in (0, VERSION):
        connection.close()
        raise sqlite3.DatabaseError(f"index of version {version}")
    return connection
