"""The learn journal: which message was taught to which account as what, so that no lesson counts twice."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS lesson (
  account TEXT NOT NULL, digest TEXT NOT NULL, label INTEGER NOT NULL, at REAL NOT NULL,
  score REAL NOT NULL, line REAL NOT NULL, origin TEXT NOT NULL, done INTEGER NOT NULL,
  PRIMARY KEY (account, digest)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lesson_at ON lesson (account, at);
"""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One row: ``label`` 1 spam, 0 ham; ``score`` and ``line`` (log-odds) as they were before it was learnt;
    ``origin`` says by what (move, flag, command, auto); ``done`` is False when a crash cut the lesson short."""

    account: str
    digest: str
    label: int
    at: float
    score: float
    line: float
    origin: str
    done: bool = True


class Journal:
    """A small SQLite file beside the models. Each process opens its own; a lesson is one committed row."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def find(self, account: str, digest: str) -> Lesson | None:
        """The lesson of this message, if there was one."""
        rows = self._rows("WHERE account=? AND digest=?", (account, digest))
        return rows[0] if rows else None

    def begin(self, lesson: Lesson) -> None:
        """Writes the row before the weights are touched, replacing an earlier one of the same message."""
        values = (lesson.account, lesson.digest, lesson.label, lesson.at, lesson.score, lesson.line, lesson.origin)
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO lesson VALUES (?,?,?,?,?,?,?,0)", values)

    def done(self, account: str, digest: str) -> None:
        """The weights have it now."""
        with self._lock:
            self._db.execute("UPDATE lesson SET done=1 WHERE account=? AND digest=?", (account, digest))

    def forget(self, account: str, digest: str) -> None:
        """Removes a row, after its lesson was undone."""
        with self._lock:
            self._db.execute("DELETE FROM lesson WHERE account=? AND digest=?", (account, digest))

    def recent(self, account: str, limit: int = 200) -> list[Lesson]:
        """The latest lessons of an account, newest first."""
        return self._rows("WHERE account=? ORDER BY at DESC LIMIT ?", (account, limit))

    def all(self, account: str) -> list[Lesson]:
        """Every lesson of an account in order of time, for rebuilding its model."""
        return self._rows("WHERE account=? ORDER BY at", (account,))

    def accounts(self) -> list[str]:
        """Every account that was taught anything."""
        with self._lock:
            return [row[0] for row in self._db.execute("SELECT DISTINCT account FROM lesson ORDER BY account")]

    def count_since(self, account: str, at: float) -> int:
        """Lessons of an account since a time."""
        with self._lock:
            row = self._db.execute("SELECT count(*) FROM lesson WHERE account=? AND at>=?", (account, at)).fetchone()
        return int(row[0])

    @contextmanager
    def closing(self) -> Iterator[Journal]:
        """Closes at the end of a with block."""
        try:
            yield self
        finally:
            self.close()

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._db.close()

    def _rows(self, where: str, values: tuple[object, ...]) -> list[Lesson]:
        query = f"SELECT account,digest,label,at,score,line,origin,done FROM lesson {where}"
        with self._lock:
            return [Lesson(*row[:7], bool(row[7])) for row in self._db.execute(query, values)]
