"""The index of one account: a cache in SQLite of what its Maildirs say, shared by all processes of this machine.

Delete it at any time; the next look at each mailbox makes it again from the files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mailguard.state.sqlite import open_sqlite
from mailguard.store import content, textpack
from mailguard.store.roster import Rosters
from mailguard.store.textpack import TextPack

VERSION = 8
_OTHER = "index of version"
_CHECK = 0.2  # seconds between two looks whether the file is still in its place
_SCHEMA = """
CREATE TABLE mailbox (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, guid TEXT NOT NULL, uid_validity INTEGER NOT NULL,
  next_uid INTEGER NOT NULL, highest_modseq INTEGER NOT NULL, floor INTEGER NOT NULL, recent_uid INTEGER NOT NULL,
  messages INTEGER NOT NULL, unseen INTEGER NOT NULL, deleted INTEGER NOT NULL, size INTEGER NOT NULL,
  listed INTEGER NOT NULL, cur TEXT NOT NULL, new TEXT NOT NULL, uidlist TEXT NOT NULL, keywords TEXT NOT NULL,
  scanned REAL NOT NULL, looked REAL NOT NULL, cost REAL NOT NULL, boot TEXT NOT NULL
);
CREATE TABLE message (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL, flags TEXT NOT NULL, modseq INTEGER NOT NULL, size INTEGER NOT NULL,
  date INTEGER NOT NULL, saved INTEGER NOT NULL, guid TEXT NOT NULL, uidl TEXT NOT NULL, cid INTEGER NOT NULL
);
CREATE INDEX message_modseq ON message (id >> 32, modseq);
CREATE INDEX message_undescribed ON message (id) WHERE cid = 0;
CREATE INDEX message_unseen ON message (id) WHERE instr(flags, '\\Seen') = 0;
CREATE TABLE expunged (id INTEGER PRIMARY KEY, modseq INTEGER NOT NULL);
CREATE INDEX expunged_modseq ON expunged (id >> 32, modseq);
CREATE TABLE reader (
  id INTEGER PRIMARY KEY, mailbox INTEGER NOT NULL, name TEXT NOT NULL, stamp TEXT NOT NULL, UNIQUE (mailbox, name)
);
CREATE TABLE seen (
  id INTEGER NOT NULL, reader INTEGER NOT NULL, seen INTEGER NOT NULL, modseq INTEGER NOT NULL,
  PRIMARY KEY (id, reader)
) WITHOUT ROWID;
CREATE INDEX seen_modseq ON seen (reader, modseq, seen);
"""
# The id of a message is its mailbox's id << 32 | its UID: one integer key, in the order of UIDs. Names that are no
# UTF-8 are kept as blobs. A reader is a member who has his own ``\\Seen`` in a shared mailbox (see ``member``).


class IndexTornError(Exception):
    """The index could not be read; it was thrown away, and what asked for it may ask again."""


class Index:
    """One SQLite file, one connection for all threads of a process, used under ``lock``; ``rosters`` keeps in memory
    what is asked for most."""

    def __init__(self, path: Path, log: Any = None, *, keeps_text: bool = True, rosters: Rosters | None = None) -> None:
        self.path = path
        self._file = os.fspath(path)
        self.rosters = rosters or Rosters()
        self.texts = TextPack(path)
        self.keeps_text = keeps_text
        self.lock = threading.RLock()
        self._log = log
        self._connection: sqlite3.Connection | None = None
        self._inode = 0
        self._depth = 0
        self._checked = 0.0
        self._changes = 0  # of this process, and of its connection
        self._writing = False

    @property
    def db(self) -> sqlite3.Connection:
        """The connection; opened, checked and if need be made anew at its first use. Hold ``lock``."""
        if self._connection is None:
            self._open()
        assert self._connection is not None
        return self._connection

    def version(self) -> tuple[int, int]:
        """Another one whenever anybody may have changed the index; within a transaction, that of what it sees. Hold
        ``lock``."""
        self._changes += self._writing
        (others,) = self.db.execute("PRAGMA data_version").fetchone()
        return self._changes, others

    def _open(self) -> None:
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._alone():
            try:
                self._connection = _connect(self.path)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) and "no such" not in str(error):
                    raise  # locked for too long, disk full, read-only: nothing is wrong with the file
                self._throw_away(str(error))
                self._connection = _connect(self.path)
            self._inode = self.path.stat().st_ino
            self._changes += 1

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process opens the file or throws it away meanwhile: half of an old one is worse than none."""
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # the folder is gone or full, or its file system has no locks
                descriptor = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                stack.callback(os.close, descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    def discard(self, reason: str = "") -> None:
        """Throws the file away: it is only a cache. Other processes see that it went, and open the new one. The log is
        told of a ``reason``."""
        with self.lock, self._alone():
            self._close()
            self._throw_away(reason)

    def _throw_away(self, reason: str) -> None:
        if self._log is not None and reason.startswith(_OTHER):
            self._log.info("the index is that of another version of mailguard and made anew", path=str(self.path))
        elif self._log is not None and reason:
            self._log.warning("the index is torn and made anew", path=str(self.path), reason=reason)
        for suffix in ("", "-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def read(self, *, fresh: bool = False) -> Reading:
        """A transaction that reads: all of it sees one state. Raises IndexTornError."""
        if fresh:
            self._checked = 0.0
        return Reading(self)

    @contextlib.contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A write transaction; one inside another joins it. Raises IndexTornError."""
        self._checked = 0.0  # what is written into a file that was replaced is lost
        with self.lock, self._minding():
            outermost = self._depth == 0
            if outermost:
                self.db.execute("BEGIN IMMEDIATE")
                self._writing = True
            self._depth += 1
            try:
                yield self.db
            except BaseException:
                if outermost:
                    with contextlib.suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                        self.db.execute("ROLLBACK")
                raise
            else:
                if outermost:
                    self.db.execute("COMMIT")
            finally:
                self._depth -= 1
                if outermost:
                    self._writing = False
                    self._changes += 1

    @contextlib.contextmanager
    def _minding(self) -> Iterator[None]:
        self.check()
        try:
            yield
        except sqlite3.DatabaseError as error:
            self.judge(error)
            raise

    def check(self) -> None:
        """Notices that the file was replaced. Hold ``lock``."""
        if self._depth == 0 and self._connection is not None and not self._in_place():
            self.close()

    def judge(self, error: sqlite3.DatabaseError) -> None:
        """Raises IndexTornError if that is what an error says. Hold ``lock``."""
        if type(error) is not sqlite3.DatabaseError and "no such table" not in str(error):
            return
        if self._depth == 0:
            self.discard(str(error))
        raise IndexTornError(f"{self.path}: {error}") from error

    def _in_place(self) -> bool:
        now = time.monotonic()
        if now - self._checked < _CHECK:
            return True
        self._checked = now
        try:
            return os.stat(self._file).st_ino == self._inode
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Closes the file."""
        with self.lock:
            if self._connection is not None:
                with self._alone():  # the last one to close removes files by their names
                    self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        # Not under the file's lock: this may happen amid anything, somebody who holds it included.
        if self._connection is not None:
            self._connection.close()


class Reading:
    """A transaction that reads (see ``Index.read``); one inside another joins it. There are too many of them for a
    generator."""

    __slots__ = ("_began", "_index")

    def __init__(self, index: Index) -> None:
        self._index = index
        self._began = False

    def __enter__(self) -> sqlite3.Connection:
        index = self._index
        index.lock.acquire()
        try:
            index.check()
            db = index.db
            if not index._depth:
                db.execute("BEGIN")
                index._depth, self._began = 1, True
            return db
        except BaseException as error:
            try:
                if isinstance(error, sqlite3.DatabaseError):
                    index.judge(error)
            finally:
                index.lock.release()
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        index = self._index
        try:
            if self._began:
                index._depth = 0
                with contextlib.suppress(sqlite3.Error):
                    index.db.execute("COMMIT")
            if isinstance(error, sqlite3.DatabaseError):
                index.judge(error)
        finally:
            index.lock.release()


def _connect(path: Path) -> sqlite3.Connection:
    connection = open_sqlite(path, timeout=30, cache_kib=1024)
    try:
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in (_SCHEMA + content.SCHEMA + textpack.SCHEMA).split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
        if version not in (0, VERSION):
            raise sqlite3.DatabaseError(f"{_OTHER} {version}")
    except BaseException:
        connection.close()
        raise
    return connection
