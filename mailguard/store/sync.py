"""Brings the index of a mailbox in line with its Maildir: new files get UIDs, changed names new flags, gone ones go."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from itertools import islice, starmap
from pathlib import Path
from typing import TypeVar

from mailguard.store import difference, maildir, uidlist
from mailguard.store.forget import Row, forget
from mailguard.store.inventory import Inventory, OddError, plain
from mailguard.store.maildir import Entry
from mailguard.store.numbering import Numbered
from mailguard.store.recall import Recalling
from mailguard.store.settle import base_of
from mailguard.store.standing import GRAIN, Stamps, State, changed_at
from mailguard.store.uidlist import Record, Uidlist

T = TypeVar("T")
_ROWS = 1_000  # taken in at a time


class Sync(Recalling):
    """One pass over one mailbox. Use with the mailbox's lock held and inside a write transaction, and make the
    uidlist durable after it if ``listed_more`` says so."""

    def run(self, state: State | None, due: str, stamps: Stamps) -> State:
        """Looks at what is ``due`` (see State.due), takes in what changed, and returns the state. ``stamps`` are those
        of this moment. Raises OSError."""
        self._before = stamps
        began = time.time()
        arrived = self._arrivals(state, began) if state is not None and due != "all" else None
        if state is not None and arrived is not None:
            self._before = stamps._replace(cur=state.cur)
            state.looked = began
            self._insert(state, self._number(state, self._settle(arrived)))
        else:
            if abs(began - changed_at(stamps.cur)) < 2 * GRAIN:
                self._before = Stamps.marked(self._path)
            state = self._everything(state)
        # What others changed in ``cur`` since we began to look is for the next look.
        keywords = self._before.keywords
        if self._moved:
            state.stamp(Stamps.marked(self._path, keywords=keywords))
        else:
            state.stamp(Stamps.of(self._path, keywords=keywords)._replace(cur=self._before.cur))
        return state

    def _arrivals(self, state: State, now: float) -> dict[str, Entry] | None:
        """What lies in ``new``, where only that changed: the cost does not depend on what lies in ``cur``, unless a
        file's name is older than the last change there. None where one has the base name of another message."""
        names = list(maildir.names(f"{self._path}/new"))
        found = {base: Entry(base, "new", name) for name in names for base in [base_of(name)]}
        changed = changed_at(state.cur)
        doubtful = {base for base in found if not changed < maildir.arrival_time(base) <= now}
        if len(found) < len(names) or (doubtful and difference.holds(self._db, state, doubtful)):
            return None
        return found

    def _everything(self, state: State | None) -> State:
        began, clock = time.time(), time.perf_counter()
        if state is not None and self._replaced(state):
            state = None
        made = self._first_look() if state is None else self._few_changes(state)
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

    def _few_changes(self, state: State) -> State | None:
        """Takes in what changed in memory that does not grow with what did not; None where all must be looked at."""
        if self._before.keywords != state.keywords:
            return None
        new = [Entry(base_of(name), "new", name) for name in maildir.names(f"{self._path}/new")]
        found = difference.compared(self._db, self._path, state, [entry.base for entry in new])
        if found is None:
            return None
        rows = {base_of(row.name): row for row in found.gone}
        if len(rows) < len(found.gone):
            return None
        entries = {base_of(name): Entry(base_of(name), "cur", name) for name in found.came}
        entries |= self._settle({entry.base: entry for entry in new})
        records: dict[str, Record] | None = None
        if self._before.uidlist != state.uidlist or not rows.keys() >= entries.keys():
            news = difference.news(self._db, self._path, state, rows.keys() | entries.keys())
            if news is None:
                return None
            listed, count, records = news
            if any(record.uid >= state.next_uid and base not in entries for base, record in records.items()):
                return None
            state.guid, state.next_uid, state.listed = listed.guid, listed.next_uid, count
        if missing := rows.keys() - entries.keys():
            # A folder read while files are renamed can miss some: look twice before calling anything expunged.
            again = {base_of(name): name for name in maildir.names(f"{self._path}/cur") if base_of(name) in missing}
            entries |= {base: Entry(base, "cur", name) for base, name in again.items()}
        self._compare(state, rows, entries, records)
        return state

    def _comparison(self, state: State | None) -> State:
        records: dict[str, Record] | None = None
        known = state.next_uid if state is not None else 0  # records of higher UIDs are news
        if state is None or self._before.uidlist != state.uidlist:
            state, records = self._read_uidlist(state)
        rows, twins = self._rows(state)
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
        if twins:
            forget(self._db, self._path, state, twins)
        self._compare(state, rows, entries, records)
        return state

    def _there(self, entry: Entry) -> bool:
        return os.path.exists(f"{self._path}/{entry.folder}/{entry.name}")

    def _rows(self, state: State) -> tuple[dict[str, Row], list[Row]]:
        """The messages by base name; and those whose base name was listed again, under a higher UID."""
        query = "SELECT id, name, flags, modseq, size FROM message WHERE id BETWEEN ? AND ? ORDER BY id"
        rows: dict[str, Row] = {}
        twins = []
        for id, name, flags, modseq, size in self._db.execute(query, (state.first, state.last)):
            name = plain(name)
            base = base_of(name)
            if base in rows:
                twins.append(rows[base])
            rows[base] = Row(id - state.first, name, flags, modseq, size)
        return rows, twins


def _portions(items: Iterable[T]) -> Iterator[list[T]]:
    source = iter(items)
    while some := list(islice(source, _ROWS)):
        yield some
