"""A Maildir that the index knows nothing of, beside what its uidlist says: in temporary tables, so that the memory it
takes does not grow with the mailbox."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from mailguard.store import maildir, uidlist
from mailguard.store.maildir import Entry
from mailguard.store.settle import base_of
from mailguard.store.uidlist import Record, Uidlist, UidlistError

_TABLES = """
CREATE TEMP TABLE listed (base NOT NULL PRIMARY KEY, uid INTEGER NOT NULL, name NOT NULL, fields TEXT NOT NULL)
 WITHOUT ROWID;
CREATE TEMP TABLE there (base NOT NULL PRIMARY KEY, name NOT NULL) WITHOUT ROWID
"""
_ROWS = 1_000  # inserted at a time


def stored(name: str) -> str | bytes:
    """A file name as the index keeps it."""
    return name if name.isascii() else os.fsencode(name)


def plain(name: str | bytes) -> str:
    """The file name again."""
    return name if isinstance(name, str) else os.fsdecode(name)


class OddError(Exception):
    """Something must be mended first: a torn list, two files of one name."""


class Inventory:
    """Use within a write transaction, with the mailbox's lock held; ``count`` is how many messages are listed."""

    def __init__(self, db: sqlite3.Connection, path: str) -> None:
        self._db = db
        self._path = path
        self.count = 0

    def read(self) -> Uidlist | None:
        """Takes in the list and the names in ``cur``; returns the list without its records, None if there is none.
        Changes no file. Raises OddError, OSError, sqlite3.OperationalError."""
        for statement in _TABLES.split(";"):
            self._db.execute(statement)
        try:
            with _Batch(self._db, "INSERT INTO listed VALUES (?, ?, ?, ?)") as batch:
                listed = uidlist.skim(
                    Path(self._path),
                    lambda each: batch.add((stored(each.base), each.uid, stored(each.name), "\n".join(each.fields))),
                )
            self.count = batch.count
            with _Batch(self._db, "INSERT INTO there VALUES (?, ?)") as batch:
                for name in maildir.names(f"{self._path}/cur"):
                    batch.add((stored(base_of(name)), stored(name)))
        except (UidlistError, sqlite3.IntegrityError) as error:
            raise OddError(str(error)) from None
        if listed is not None and listed.torn:
            raise OddError("the list is torn")
        return listed

    def add(self, entries: dict[str, Entry]) -> None:
        """Files that came into ``cur`` since."""
        rows = [(stored(base), stored(entry.name)) for base, entry in entries.items()]
        self._db.executemany("INSERT INTO there VALUES (?, ?)", rows)

    def holds(self, base: str) -> bool:
        """Whether a file of this base name is in ``cur``."""
        query = "SELECT 1 FROM there WHERE base = ?"
        return self._db.execute(query, (stored(base),)).fetchone() is not None

    def listed(self) -> Iterator[tuple[Record, Entry]]:
        """The messages that are listed and there, by UID."""
        query = "SELECT l.uid, l.name, l.fields, t.name FROM listed l JOIN there t USING (base) ORDER BY l.uid"
        for uid, name, fields, there in self._db.execute(query):
            record = Record(uid, plain(name), tuple(filter(None, fields.split("\n"))))
            yield record, Entry(record.base, "cur", plain(there))

    def unlisted(self) -> Iterator[Entry]:
        """The files that no list names, in the order of their arrival."""
        self._db.create_function("arrival", 1, _arrival, deterministic=True)
        query = "SELECT base, name FROM there WHERE base NOT IN (SELECT base FROM listed) ORDER BY arrival(base), base"
        for base, name in self._db.execute(query):
            yield Entry(plain(base), "cur", plain(name))

    def close(self) -> None:
        """Gives the tables up."""
        for table in ("listed", "there"):
            self._db.execute(f"DROP TABLE IF EXISTS temp.{table}")


def _arrival(base: str | bytes) -> str:
    second, part, _ = maildir.arrival_order(plain(base))
    return f"{second:020d}.{part:020d}"


class _Batch:
    def __init__(self, db: sqlite3.Connection, statement: str) -> None:
        self._db = db
        self._statement = statement
        self._rows: list[tuple[object, ...]] = []
        self.count = 0

    def __enter__(self) -> _Batch:
        return self

    def add(self, row: tuple[object, ...]) -> None:
        self._rows.append(row)
        self.count += 1
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        self._db.executemany(self._statement, self._rows)
        self._rows.clear()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self._flush()
