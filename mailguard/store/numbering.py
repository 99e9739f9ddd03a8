"""Takes message files into the index, each under its UID; gives UIDs to those that have none."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

from mailguard.store import content, maildir, uidlist
from mailguard.store.flag import flags_of
from mailguard.store.forget import Row, forget
from mailguard.store.inventory import stored
from mailguard.store.lock import Tell
from mailguard.store.maildir import Entry
from mailguard.store.settle import Settling
from mailguard.store.standing import Stamps, State, next_modseq
from mailguard.store.uidlist import Record

_ROWS = 1_000  # inserted at a time
_INSERT = f"INSERT OR REPLACE INTO message VALUES ({','.join('?' * 10)})"
_UPDATE = "UPDATE message SET name=?, flags=?, modseq=? WHERE id=?"


class Numbered(NamedTuple):
    """A file to be put into the index under its UID; ``record`` holds what the uidlist says of it."""

    record: Record
    entry: Entry


class Numbering(Settling):
    """Use with the mailbox's lock held and inside a write transaction, and make the uidlist durable after it if
    ``listed_more`` says so."""

    _before: Stamps  # when the look began

    def __init__(self, db: sqlite3.Connection, path: str, host: str, tell: Tell) -> None:
        super().__init__(path, host, tell)
        self._db = db
        self.listed_more = False

    def _compare(
        self, state: State, rows: dict[str, Row], entries: dict[str, Entry], records: dict[str, Record] | None
    ) -> None:
        """Takes in the difference between the index (``rows``), the uidlist, if it was read, and the files."""
        found: list[Numbered] = []
        rest: dict[str, Entry] = {}
        updates: list[tuple[Row, str]] = []
        dead = self._expunged(state) if records else set()
        same_keywords = self._before.keywords == state.keywords
        for base, entry in entries.items():
            row = rows.get(base)
            record = None if records is None else records.get(base)
            if row is not None and (records is None or (record is not None and record.uid == row.uid)):
                del rows[base]
                if row.name != entry.name or not same_keywords:
                    updates.append((row, entry.name))
            elif record is not None and record.uid not in dead:
                found.append(Numbered(record, entry))
            else:
                rest[base] = entry
        found.sort(key=lambda each: each.record.uid)
        if rows:
            forget(self._db, self._path, state, list(rows.values()))
        self._insert(state, found + self._number(state, rest))
        if updates:
            self._update(state, updates)

    def _expunged(self, state: State) -> set[int]:
        """UIDs whose end was told to clients: they do not come back."""
        query = "SELECT id FROM expunged WHERE id BETWEEN ? AND ?"
        return {id - state.first for (id,) in self._db.execute(query, (state.first, state.last))}

    def _number(self, state: State, entries: dict[str, Entry]) -> list[Numbered]:
        """Gives UIDs to files that have none, in the order of their arrival."""
        for entry in [entry for base, entry in entries.items() if not maildir.fits(base)]:
            del entries[entry.base]
            self._rename(entry, entries)
        fresh = sorted(entries, key=maildir.arrival_order)
        made = [Numbered(Record(state.next_uid + n, entries[base].name), entries[base]) for n, base in enumerate(fresh)]
        if made:
            append_listed(self._path, state, [each.record for each in made])
            self.listed_more = True
        return made

    def _insert(self, state: State, found: list[Numbered]) -> None:
        if not found:
            return
        keywords = self._keywords()
        known = content.claim(self._db, (record.base for record, _ in found))
        modseq = next_modseq(self._path, state)
        cur, first, stat = f"{self._path}/cur/", state.first, os.stat
        printed: dict[str, str] = {}  # flags by letters: there are few kinds
        rows: list[tuple[Any, ...]] = []
        for record, entry in found:
            name = entry.name
            try:
                seen = stat(cur + name)
            except FileNotFoundError:
                continue  # renamed between the look and now: the next look finds it, under the UID of the list
            size = maildir.stated_size(name)
            if size is None:
                size = int(record.field("W") or 0) or _rough(seen.st_size)
            letters = entry.letters
            flags = printed.get(letters)
            if flags is None:
                flags = printed[letters] = flags_of(letters, keywords)
            state.count(flags, size)
            guid, uidl = (stored(record.field("G")), record.field("P")) if record.fields else ("", "")
            cid = known.get(record.base, 0) if known else 0
            rows.append((first + record.uid, stored(name), flags, modseq, size, int(seen.st_mtime), int(seen.st_ctime),
                         guid, uidl, cid))  # fmt: skip
            if len(rows) == _ROWS:
                self._db.executemany(_INSERT, rows)
                rows.clear()
        self._db.executemany(_INSERT, rows)

    def _keywords(self) -> list[str]:
        return [] if self._before.keywords == "-" else uidlist.read_keywords(Path(self._path))

    def _update(self, state: State, renamed: list[tuple[Row, str]]) -> None:
        """Other file names, or other names of the keywords in them."""
        keywords = self._keywords()
        updates, modseq = [], 0
        for row, name in renamed:
            flags = flags_of(maildir.split_name(name)[1], keywords)
            if flags != row.flags:
                modseq = modseq or next_modseq(self._path, state)
                state.recount(row.flags, flags)
            elif name == row.name:
                continue
            seq = row.modseq if flags == row.flags else modseq
            updates.append((stored(name), flags, seq, state.first + row.uid))
        self._db.executemany(_UPDATE, updates)


def _rough(octets: int) -> int:
    """A size that is still to be found out is negative: no less than the message will have on the wire, as a rule."""
    return -(octets + octets // 16)


def append_listed(path: str, state: State, records: list[Record]) -> None:
    """Adds new UIDs to the uidlist; to be made durable before anybody hears of them."""
    uidlist.append_records(path, records)
    state.next_uid = records[-1].uid + 1
    state.listed += len(records)
