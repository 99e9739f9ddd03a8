"""Messages that went: out of the index, remembered as expunged, and in the end out of the uidlist."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mailguard.store import uidlist
from mailguard.store.standing import State, chosen, next_modseq

MAX_EXPUNGED = 20_000
"""Expunges of a mailbox that are remembered one by one."""


class Row(NamedTuple):
    """What the index says of one file."""

    uid: int
    name: str
    flags: str
    modseq: int
    size: int


def forget(db: sqlite3.Connection, path: str, state: State, rows: Iterable[Row]) -> None:
    """Takes messages out of the index and remembers when they went."""
    modseq = next_modseq(path, state)
    uids = []
    for row in rows:
        state.count(row.flags, row.size, -1)
        uids.append(row.uid)
    where, values = chosen(db, state, sorted(uids))
    db.execute(f"INSERT OR REPLACE INTO expunged SELECT m.id, ? FROM message m WHERE {where}", (modseq, *values))
    for table in ("seen", "message"):
        db.execute(f"DELETE FROM {table} AS m WHERE {where}", values)
    _forget_old(db, state)


def _forget_old(db: sqlite3.Connection, state: State) -> None:
    if state.highest_modseq % 64:
        return  # now and then is enough
    span = (state.first, state.last)
    (count,) = db.execute("SELECT count(*) FROM expunged WHERE id BETWEEN ? AND ?", span).fetchone()
    if count > 2 * MAX_EXPUNGED:
        query = "SELECT modseq FROM expunged WHERE id BETWEEN ? AND ? ORDER BY modseq DESC LIMIT 1 OFFSET ?"
        (state.floor,) = db.execute(query, (*span, MAX_EXPUNGED)).fetchone()
        db.execute("DELETE FROM expunged WHERE id BETWEEN ? AND ? AND modseq <= ?", (*span, state.floor))


def forget_mailbox(db: sqlite3.Connection, id: int) -> None:
    """Takes a mailbox out of the index, as if it had never been looked at."""
    for table in ("message", "expunged", "seen"):
        db.execute(f"DELETE FROM {table} WHERE id BETWEEN ? AND ?", (id << 32, (id << 32) + 0xFFFFFFFF))
    db.execute("DELETE FROM reader WHERE mailbox = ?", (id,))
    db.execute("DELETE FROM mailbox WHERE id = ?", (id,))


def compact(path: str, db: sqlite3.Connection, state: State) -> None:
    """Writes the uidlist without the messages that are gone, once these are the most."""
    if state.listed - state.messages <= max(200, state.messages):
        return
    listed = uidlist.read_uidlist(Path(path))
    if listed is not None:
        query = "SELECT id FROM message WHERE id BETWEEN ? AND ?"
        there = {id - state.first for (id,) in db.execute(query, (state.first, state.last))}
        listed.records = [record for record in listed.records if record.uid in there]
        listed.next_uid = max(listed.next_uid, state.next_uid)
        uidlist.write_uidlist(Path(path), listed)
        state.listed = len(listed.records)
