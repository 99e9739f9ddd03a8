"""Brings the index of a mailbox in line with its Maildir: new files get UIDs, changed names new flags, gone ones go."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from itertools import islice, starmap
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mailguard.store import content, maildir, uidlist
from mailguard.store.flag import flags_of
from mailguard.store.forget import Row, forget, forget_mailbox
from mailguard.store.inventory import Inventory, OddError, plain, stored
from mailguard.store.lock import Tell, untold
from mailguard.store.maildir import Entry
from mailguard.store.settle import Settling, base_of
from mailguard.store.standing import (
    GRAIN,
    Stamps,
    State,
    changed_at,
    first_modseq,
    insert_state,
    next_modseq,
)
from mailguard.store.uidlist import Record, Uidlist, UidlistError

T = TypeVar("T")
_ROWS = 1_000  # inserted at a time
_INSERT = f"INSERT OR REPLACE INTO message VALUES ({','.join('?' * 10)})"
_UPDATE = "UPDATE message SET name=?, flags=?, modseq=? WHERE id=?"


class Numbered(NamedTuple):
    """A file to be put into the index under its UID; ``record`` holds what the uidlist says of it."""

    record: Record
    entry: Entry


class Sync(Settling):
    """One pass over one mailbox. Use with the mailbox's lock held and inside a write transaction, and make the
    uidlist durable after it if ``listed_more`` says so."""

    def __init__(self, db: sqlite3.Connection, path: str, name: str, host: str, tell: Tell = untold) -> None:
        super().__init__(path, host, tell)
        self._db = db
        self._name = name
        self.listed_more = False

    def run(self, state: State | None, due: str, stamps: Stamps) -> State:
        """Looks at what is ``due`` (see State.due), takes in what changed, and returns the state. ``stamps`` are those
        of this moment. Raises OSError."""
        self._before = stamps
        if state is None or due == "all":
            if abs(time.time() - changed_at(stamps.cur)) < 2 * GRAIN:
                self._before = Stamps.marked(self._path)
            state = self._everything(state)
        else:
            self._before = stamps._replace(cur=state.cur)
            self._arrivals(state)
        # What others changed in ``cur`` since we began to look is for the next look.
        keywords = self._before.keywords
        if self._moved:
            state.stamp(Stamps.marked(self._path, keywords=keywords))
        else:
            state.stamp(Stamps.of(self._path, keywords=keywords)._replace(cur=self._before.cur))
        return state

    def _arrivals(self, state: State) -> None:
        """Only ``new`` changed: the cost does not depend on what lies in ``cur``."""
        state.looked = time.time()
        names = [name for name in os.listdir(f"{self._path}/new") if not name.startswith(".")]
        entries = self._settle({base: Entry(base, "new", name) for name in names for base in [base_of(name)]})
        self._insert(state, self._number(state, entries))

    def _everything(self, state: State | None) -> State:
        began, clock = time.time(), time.perf_counter()
        made = self._first_look() if state is None else None
        if made is None:
            made = self._comparison(state)
        made.scanned = made.looked = began
        made.cost = time.perf_counter() - clock
        return made

    def _first_look(self) -> State | None:
        """Takes in a mailbox that the index does not know, in memory that does not grow with it; None where something
        is to be mended first."""
        inventory = Inventory(self._db, self._path)
        try:
            listed = inventory.read()
            new = list(maildir.names(f"{self._path}/new"))
            arrived = {base_of(name): Entry(base_of(name), "new", name) for name in new}
            if len(arrived) < len(new) or any(map(inventory.holds, arrived)):
                return None
            if listed is None:
                listed = Uidlist.fresh(uidlist.fresh_validity(self._path))
                uidlist.write_uidlist(Path(self._path), listed)
            inventory.add(self._settle(arrived))
            state = self._new_state(listed)
            state.listed = inventory.count
            for some in _portions(inventory.listed()):
                self._insert(state, list(starmap(Numbered, some)))
            for files in _portions(inventory.unlisted()):
                self._insert(state, self._number(state, {entry.base: entry for entry in files}))
            return state
        except OddError:
            return None
        finally:
            inventory.close()

    def _new_state(self, listed: Uidlist) -> State:
        start = first_modseq(self._path)
        state = State(0, self._name, listed.guid, listed.uid_validity, listed.next_uid, start, start + 1)
        insert_state(self._db, state)
        return state

    def _comparison(self, state: State | None) -> State:
        records: dict[str, Record] | None = None
        known = state.next_uid if state is not None else 0  # records of higher UIDs are news
        if state is None or self._before.uidlist != state.uidlist:
            state, records = self._read_uidlist(state)
        rows = self._rows(state)
        entries, doubles = maildir.scan(self._path)
        entries = self._settle(entries)
        if records is None and not rows.keys() >= entries.keys():
            state, records = self._read_uidlist(state)
        unseen = {record.base for record in (records or {}).values() if record.uid >= known}
        if not entries.keys() >= rows.keys() | unseen:
            # A folder read while files are renamed can miss some: look twice before calling anything expunged.
            again, doubles = maildir.scan(self._path)
            entries = self._settle(again | {b: e for b, e in entries.items() if b not in again and self._there(e)})
        self._separate(doubles, entries, rows)
        self._compare(state, rows, entries, records)
        return state

    def _there(self, entry: Entry) -> bool:
        return os.path.exists(f"{self._path}/{entry.folder}/{entry.name}")

    def _rows(self, state: State) -> dict[str, Row]:
        query = "SELECT id, name, flags, modseq, size FROM message WHERE id BETWEEN ? AND ?"
        rows = {}
        for id, name, flags, modseq, size in self._db.execute(query, (state.first, state.last)):
            name = plain(name)
            rows[base_of(name)] = Row(id - state.first, name, flags, modseq, size)
        return rows

    def _read_uidlist(self, state: State | None) -> tuple[State, dict[str, Record]]:
        """The state under the UIDVALIDITY of the list, and the list's records by base name."""
        listed, sound = self._uidlist(state)
        if state is not None and state.uid_validity != listed.uid_validity:
            validities = {"before": state.uid_validity, "now": listed.uid_validity}
            self._tell("another UIDVALIDITY: mail programs load this mailbox again", **validities)
            forget_mailbox(self._db, state.id)
            state = None
        if state is None:
            state = self._new_state(listed)
        if not sound or listed.next_uid < state.next_uid:
            if sound:
                self._tell("dovecot-uidlist is older than what was told to mail programs: its next UID is raised")
            listed.next_uid = max(listed.next_uid, state.next_uid)
            uidlist.write_uidlist(Path(self._path), listed)
        state.guid, state.next_uid, state.listed = listed.guid, listed.next_uid, len(listed.records)
        return state, {record.base: record for record in listed.records}

    def _uidlist(self, state: State | None) -> tuple[Uidlist, bool]:
        """The list, and whether it may stay as it is."""
        try:
            listed = uidlist.read_uidlist(Path(self._path))
        except UidlistError as error:
            wrong, facts = "dovecot-uidlist cannot be read", {"reason": str(error)}
        else:
            if listed is not None:
                if listed.torn:
                    kept = self._fill_in(listed, state)
                    text = "dovecot-uidlist was torn or old and is mended"
                    self._tell(text, next_uid=listed.next_uid, taken_from_index=kept)
                return listed, not listed.torn
            wrong, facts = "dovecot-uidlist is gone", {}
        if state is not None:
            records = self._recall(state)
            names = {base_of(name) for name in os.listdir(f"{self._path}/cur")}
            if any(record.base in names for record in records):
                self._tell(f"{wrong}: UIDVALIDITY and UIDs are those that the index knows", **facts, uids=len(records))
                return Uidlist(state.uid_validity, state.next_uid + uidlist.GAP, state.guid, records), False
        if state is not None or facts:
            self._tell(f"{wrong} and is made anew", **facts)
        return Uidlist.fresh(uidlist.fresh_validity(self._path, state.uid_validity if state else 0)), False

    def _recall(self, state: State) -> list[Record]:
        """What the uidlist said when we looked last. A UID is a message's own as long as its UIDVALIDITY holds, so
        that this is right whatever others did since: what they numbered counts as gone, and gets UIDs that nobody
        gave yet."""
        query = "SELECT id, name, size, guid, uidl FROM message WHERE id BETWEEN ? AND ? ORDER BY id"
        records = []
        for id, kept, size, guid, uidl in self._db.execute(query, (state.first, state.last)):
            name = plain(kept)
            wire = f"W{size}" if size > 0 and maildir.stated_size(name) is None else ""
            fields = (wire, f"G{plain(guid)}" if guid else "", f"P{uidl}" if uidl else "")
            records.append(Record(id - state.first, name, tuple(filter(None, fields))))
        return records

    def _fill_in(self, listed: Uidlist, state: State | None) -> int:
        """Adds to a torn list the messages that only the index knows; returns how many."""
        if state is None or state.uid_validity != listed.uid_validity:
            return 0
        known = self._recall(state)
        if listed.records and any(
            each.uid == listed.records[-1].uid and each.name.startswith(listed.records[-1].name) for each in known
        ):
            listed.records.pop()  # its name may be cut off
        bases, uids = {each.base for each in listed.records}, {each.uid for each in listed.records}
        lost = [each for each in known if each.base not in bases and each.uid not in uids]
        listed.records = sorted([*listed.records, *lost], key=attrgetter("uid"))
        return len(lost)

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


def _portions(items: Iterable[T]) -> Iterator[list[T]]:
    source = iter(items)
    while some := list(islice(source, _ROWS)):
        yield some


def _rough(octets: int) -> int:
    """A size that is still to be found out is negative: no less than the message will have on the wire, as a rule."""
    return -(octets + octets // 16)


def append_listed(path: str, state: State, records: list[Record]) -> None:
    """Adds new UIDs to the uidlist; to be made durable before anybody hears of them."""
    uidlist.append_records(path, records)
    state.next_uid = records[-1].uid + 1
    state.listed += len(records)
