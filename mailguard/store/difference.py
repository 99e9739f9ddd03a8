"""What changed in a large mailbox of whose files few did: found without holding all of them in memory."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from mailguard.store import maildir, uidlist
from mailguard.store.forget import Row
from mailguard.store.inventory import plain
from mailguard.store.settle import base_of
from mailguard.store.standing import State
from mailguard.store.uidlist import Record, Uidlist, UidlistError


class Difference(NamedTuple):
    """``came``: names in ``cur`` that the index does not know; ``gone``: what the index knows by names that are not
    there."""

    came: list[str]
    gone: list[Row]


def compared(db: sqlite3.Connection, path: str, state: State, new: Sequence[str]) -> Difference | None:
    """Compares the names in ``cur`` with those in the index; None where two files share a base name, those of the base
    names in ``new`` counted in. Names are told apart by Python's keyed hash of 64 bits: for 200,000 files among 200,000
    known ones the chance that any is overlooked, until another process looks, is one to four hundred million."""
    span = (state.first, state.last)
    left = {hash(name) for (name,) in db.execute("SELECT name FROM message WHERE id BETWEEN ? AND ?", span)}
    came: list[str] = []
    for name in maildir.names(f"{path}/cur"):
        try:
            left.remove(hash(name if name.isascii() else os.fsencode(name)))
        except KeyError:
            came.append(name)
    bases = {*map(base_of, came), *new}
    if len(bases) < len(came) + len(new):
        return None
    gone: list[Row] = []
    query = "SELECT id, name, flags, modseq, size FROM message WHERE id BETWEEN ? AND ?"
    for id, name, flags, modseq, size in db.execute(query, span) if bases or left else ():
        if hash(name) in left:
            gone.append(Row(id - state.first, plain(name), flags, modseq, size))
        elif bases and base_of(plain(name)) in bases:
            return None
    return Difference(came, gone)


def holds(db: sqlite3.Connection, state: State, bases: Set[str]) -> bool:
    """Whether the index knows a message of one of these base names."""
    names = db.execute("SELECT name FROM message WHERE id BETWEEN ? AND ?", (state.first, state.last))
    return any(base_of(plain(name)) in bases for (name,) in names)


def news(
    db: sqlite3.Connection, path: str, state: State, bases: Set[str]
) -> tuple[Uidlist, int, dict[str, Record]] | None:
    """The uidlist without its records, how many it has, and those of them that are of these base names or were added
    since the last look; None where it says something else than the index. Raises OSError."""
    found: dict[str, Record] = {}
    merge = _Merge(db.execute("SELECT id - ?, name FROM message WHERE id BETWEEN ? AND ? ORDER BY id",
                              (state.first, state.first, state.last)))  # fmt: skip

    def take(record: Record) -> None:
        merge.take(record)
        if record.uid >= state.next_uid or record.base in bases:
            found[record.base] = record

    try:
        listed = uidlist.skim(Path(path), take)
    except UidlistError:
        return None
    if listed is None or listed.torn or not merge.agrees() or listed.uid_validity != state.uid_validity:
        return None
    return (listed, merge.count, found) if listed.next_uid >= state.next_uid else None


class _Merge:
    """Whether every message of the index is listed under its UID; both come by ascending UID."""

    def __init__(self, rows: Iterator[tuple[int, str | bytes]]) -> None:
        self.count = 0
        self._rows = rows
        self._row = next(rows, None)
        self._odd = False

    def take(self, record: Record) -> None:
        """The next record."""
        self.count += 1
        if self._row is not None and self._row[0] <= record.uid:
            self._odd = self._odd or self._row[0] < record.uid or base_of(plain(self._row[1])) != record.base
            self._row = next(self._rows, None)

    def agrees(self) -> bool:
        """After the last record."""
        return not self._odd and self._row is None
