"""The learn journal: which message was taught to which account as what, so that no lesson counts twice; and the
arrivals that nobody has said anything about yet."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mailguard.plugin import open_sqlite

_SCHEMA = """
CREATE TABLE IF NOT EXISTS lesson (
  account TEXT NOT NULL, digest TEXT NOT NULL, label INTEGER NOT NULL, at REAL NOT NULL,
  score REAL NOT NULL, line REAL NOT NULL, origin TEXT NOT NULL, shared INTEGER NOT NULL, done INTEGER NOT NULL,
  numbers BLOB NOT NULL, PRIMARY KEY (account, digest)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lesson_at ON lesson (account, at);
CREATE INDEX IF NOT EXISTS lesson_shared ON lesson (account, at, origin) WHERE shared;
CREATE TABLE IF NOT EXISTS arrival (
  account TEXT NOT NULL, digest TEXT NOT NULL, at REAL NOT NULL, score REAL NOT NULL, junk INTEGER NOT NULL,
  numbers BLOB NOT NULL, PRIMARY KEY (account, digest));
CREATE INDEX IF NOT EXISTS arrival_at ON arrival (at);
"""
_LESSON = "account,digest,label,at,score,line,origin,shared,done,numbers"
_ARRIVAL = "account,digest,at,score,junk,numbers"


@dataclass(frozen=True, slots=True)
class Lesson:
    """One row: ``label`` 1 spam, 0 ham; ``score`` and ``line`` (log-odds) as they were before it was learnt;
    ``origin`` says by what (move, flag, command, release, kept, silence, automatic); ``shared`` whether the model of
    all was taught, too; ``done`` is False while the weights may lack it, with ``numbers`` (a packed rehearsal slot) to
    finish it by."""

    account: str
    digest: str
    label: int
    at: float
    score: float
    line: float
    origin: str
    shared: bool = False
    done: bool = True
    numbers: bytes = b""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message as it was scored on arrival: ``score`` in log-odds, ``junk`` whether it was called spam,
    ``numbers`` a packed rehearsal slot."""

    account: str
    digest: str
    at: float
    score: float
    junk: bool
    numbers: bytes


class Journal:
    """A small SQLite file beside the models. Each process opens its own; a lesson is one committed row."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = open_sqlite(path)
        self._db.executescript(_SCHEMA)

    def find(self, account: str, digest: str) -> Lesson | None:
        """The lesson of this message, if there was one."""
        rows = self._lessons("WHERE account=? AND digest=?", (account, digest))
        return rows[0] if rows else None

    def begin(self, lesson: Lesson) -> None:
        """Writes the row before the weights are touched, replacing an earlier one of the same message."""
        row = (lesson.account, lesson.digest, lesson.label, lesson.at, lesson.score, lesson.line, lesson.origin)
        more = int(lesson.shared), lesson.numbers
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO lesson VALUES (?,?,?,?,?,?,?,?,0,?)", (*row, *more))

    def done(self, account: str, digest: str) -> None:
        """The weights have it now."""
        with self._lock:
            self._db.execute("UPDATE lesson SET done=1, numbers=x'' WHERE account=? AND digest=?", (account, digest))

    def unfinished(self, before: float) -> list[Lesson]:
        """Lessons begun before a time (Unix) and not done: a crash cut them short."""
        return self._lessons("WHERE done=0 AND at<? LIMIT 1000", (before,))

    def forget(self, account: str, digest: str) -> None:
        """Removes a row, after its lesson was undone."""
        with self._lock:
            self._db.execute("DELETE FROM lesson WHERE account=? AND digest=?", (account, digest))

    def recent(self, account: str, limit: int = 200) -> list[Lesson]:
        """The latest lessons of an account, newest first."""
        return self._lessons("WHERE account=? ORDER BY at DESC LIMIT ?", (account, limit))

    def all(self, account: str) -> list[Lesson]:
        """Every lesson of an account in order of time, for rebuilding its model."""
        return self._lessons("WHERE account=? ORDER BY at", (account,))

    def accounts(self) -> list[str]:
        """Every account that was taught anything."""
        with self._lock:
            return [row[0] for row in self._db.execute("SELECT DISTINCT account FROM lesson ORDER BY account")]

    def count_since(self, account: str, at: float, origin: str = "") -> int:
        """Lessons of an account since a time, of one origin if it is named."""
        query = "SELECT count(*) FROM lesson WHERE account=? AND at>=? AND (?='' OR origin=?)"
        with self._lock:
            row = self._db.execute(query, (account, at, origin, origin)).fetchone()
        return int(row[0])

    def shared(self, account: str, since: float) -> tuple[int, int, int]:
        """How many lessons for all this account gave since a time and ever (by commands aside), and all others ever."""
        query = """SELECT coalesce(sum(account=? AND at>=? AND origin<>'command'), 0),
            coalesce(sum(account=? AND origin<>'command'), 0), coalesce(sum(account<>?), 0) FROM lesson WHERE shared"""
        with self._lock:
            day, ever, others = self._db.execute(query, (account, since, account, account)).fetchone()
        return day, ever, others

    def arrived(self, arrivals: Iterable[Arrival]) -> None:
        """Notes arrivals, in one transaction."""
        rows = [(a.account, a.digest, a.at, a.score, int(a.junk), a.numbers) for a in arrivals]
        with self._lock, self._transaction():
            self._db.executemany("INSERT OR IGNORE INTO arrival VALUES (?,?,?,?,?,?)", rows)

    def claim(self, account: str, digest: str) -> Arrival | None:
        """Takes one arrival out, None when it is not there (any more): its reader has spoken."""
        query = f"DELETE FROM arrival WHERE account=? AND digest=? RETURNING {_ARRIVAL}"
        return next(iter(self._arrivals(query, (account, digest))), None)

    def claim_older(self, before: float, limit: int) -> list[Arrival]:
        """Takes out the oldest arrivals from before a time (Unix); each goes to one process only."""
        chosen = "SELECT rowid FROM arrival WHERE at<? ORDER BY at LIMIT ?"
        return self._arrivals(f"DELETE FROM arrival WHERE rowid IN ({chosen}) RETURNING {_ARRIVAL}", (before, limit))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    def _lessons(self, where: str, values: tuple[object, ...]) -> list[Lesson]:
        with self._lock:
            rows = self._db.execute(f"SELECT {_LESSON} FROM lesson {where}", values).fetchall()
        return [
            Lesson(account, digest, label, at, score, line, origin, bool(shared), bool(done), numbers)
            for account, digest, label, at, score, line, origin, shared, done, numbers in rows
        ]

    def _arrivals(self, query: str, values: tuple[object, ...]) -> list[Arrival]:
        with self._lock:
            rows = self._db.execute(query, values).fetchall()
        return [Arrival(a, d, at, score, bool(junk), n) for a, d, at, score, junk, n in rows]
