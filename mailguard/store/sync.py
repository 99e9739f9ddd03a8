"""Brings the index of a mailbox in line with its Maildir: new files get UIDs, changed names new flags, gone ones go."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mailguard.store import maildir, uidlist
from mailguard.store.maildir import Entry
from mailguard.store.uidlist import Record, Uidlist, UidlistError

MODSEQ_FILE = "mailguard-modseq"
_BLOCK = 10_000  # modseqs reserved at a time


@dataclass(slots=True)
class State:
    """The row of a mailbox in the index."""

    id: int
    name: str
    guid: str
    uid_validity: int
    next_uid: int
    highest_modseq: int
    recent_uid: int
    stamp: str
    scanned: float


class Row(NamedTuple):
    """What the index says of one file."""

    uid: int
    base: str
    folder: str
    name: str
    flags: str


def load_state(db: sqlite3.Connection, name: str) -> State | None:
    """The mailbox's row, None if it was never looked at."""
    row = db.execute("SELECT * FROM mailbox WHERE name = ?", (name,)).fetchone()
    return State(*row) if row else None


def save_state(db: sqlite3.Connection, state: State) -> None:
    """Writes the row back."""
    db.execute(
        "UPDATE mailbox SET guid=?, uid_validity=?, next_uid=?, highest_modseq=?, recent_uid=?, stamp=?, scanned=?"
        " WHERE id=?",
        (state.guid, state.uid_validity, state.next_uid, state.highest_modseq, state.recent_uid, state.stamp,
         state.scanned, state.id),
    )  # fmt: skip


def stamp(path: Path) -> str:
    """What changes when files come, go or are renamed: the times of the folders and of the uidlist."""
    parts = []
    for name in ("cur", "new", uidlist.UIDLIST, uidlist.KEYWORDS):
        try:
            found = os.stat(path / name)
            parts.append(f"{found.st_mtime_ns}/{found.st_size}")
        except FileNotFoundError:
            parts.append("-")
    return " ".join(parts)


def next_modseq(path: Path, state: State) -> int:
    """One higher than ever before; a bound kept beside the mail outlives the index (RFC 7162 §3.1)."""
    state.highest_modseq += 1
    if state.highest_modseq % _BLOCK == 1 or not (path / MODSEQ_FILE).exists():
        uidlist.replace(path / MODSEQ_FILE, f"{state.highest_modseq + _BLOCK}\n")
    return state.highest_modseq


def first_modseq(path: Path) -> int:
    """Where to start when there is no index: above all that was handed out, here or by a server before us."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        bound = int((path / MODSEQ_FILE).read_text())
        return bound - bound % _BLOCK + _BLOCK
    return 1 << 32


def flags_of(letters: str, keywords: list[str]) -> str:
    """The flags as FETCH prints them, without parentheses."""
    names = [maildir.LETTERS[c] for c in letters if c in maildir.LETTERS]
    for letter in letters:
        number = ord(letter) - 97
        if 0 <= number < len(keywords) and keywords[number]:
            names.append(keywords[number])
    return " ".join(names)


class Sync:
    """One pass over one mailbox. Use with the mailbox's dot lock held and inside a write transaction."""

    def __init__(self, db: sqlite3.Connection, path: Path, name: str) -> None:
        self._db = db
        self._path = path
        self._name = name

    def run(self) -> State:
        """Looks at the files, takes in what changed, and returns the state. Raises OSError."""
        listed, rewrite = self._uidlist()
        state = self._state(listed)
        entries = self._settle_new(maildir.scan(self._path))
        wanted = "SELECT uid, base, folder, name, flags FROM message WHERE mailbox = ?"
        rows = {
            os.fsdecode(base): Row(uid, os.fsdecode(base), folder, os.fsdecode(name), flags)
            for uid, base, folder, name, flags in self._db.execute(wanted, (state.id,))
        }
        gone = [r for r in listed.records if r.base not in entries]
        if gone or any(base not in entries for base in rows):
            # A folder read while files are renamed can miss some: look twice before calling anything expunged.
            entries = self._settle_new(maildir.scan(self._path) | {b: e for b, e in entries.items() if self._there(e)})
            gone = [r for r in listed.records if r.base not in entries]
        added = self._number(listed, entries)
        if gone:
            missing = {r.base for r in gone}
            listed.records = [r for r in listed.records if r.base not in missing]
        if gone or rewrite:
            uidlist.write_uidlist(self._path, listed)
        elif added:
            uidlist.append_records(self._path, added)
        self._take(state, listed, entries, rows)
        state.next_uid = listed.next_uid
        state.stamp = stamp(self._path)
        state.scanned = time.time()
        save_state(self._db, state)
        return state

    def _there(self, entry: Entry) -> bool:
        return (self._path / entry.folder / entry.name).exists()

    def _uidlist(self) -> tuple[Uidlist, bool]:
        try:
            listed = uidlist.read_uidlist(self._path)
        except UidlistError:
            listed = None
        if listed is None:
            old = load_state(self._db, self._name)
            validity = max(int(time.time()), (old.uid_validity + 1) if old else 0)
            return Uidlist.fresh(validity), True
        return listed, False

    def _state(self, listed: Uidlist) -> State:
        state = load_state(self._db, self._name)
        if state is not None and state.uid_validity != listed.uid_validity:
            for table in ("message", "expunged"):
                self._db.execute(f"DELETE FROM {table} WHERE mailbox = ?", (state.id,))
            state.uid_validity, state.guid, state.recent_uid = listed.uid_validity, listed.guid, 0
        if state is None:
            start = first_modseq(self._path)
            self._db.execute(
                "INSERT INTO mailbox (name, guid, uid_validity, next_uid, highest_modseq) VALUES (?, ?, ?, ?, ?)",
                (self._name, listed.guid, listed.uid_validity, listed.next_uid, start),
            )
            state = load_state(self._db, self._name)
            assert state is not None
        return state

    def _settle_new(self, entries: dict[str, Entry]) -> dict[str, Entry]:
        """Moves ``new`` to ``cur``, as a reader does."""
        for base, entry in list(entries.items()):
            if entry.folder == "new":
                name = entry.name if ":2," in entry.name else f"{entry.name}:2,"
                try:
                    os.rename(self._path / "new" / entry.name, self._path / "cur" / name)
                except FileNotFoundError:
                    del entries[base]
                else:
                    entries[base] = Entry(base, "cur", name)
        return entries

    def _number(self, listed: Uidlist, entries: dict[str, Entry]) -> list[Record]:
        known = {record.base for record in listed.records}
        fresh = sorted((b for b in entries if b not in known), key=maildir.arrival_order)
        added = [Record(listed.next_uid + n, entries[base].name) for n, base in enumerate(fresh)]
        listed.records += added
        listed.next_uid += len(added)
        return added

    def _take(self, state: State, listed: Uidlist, entries: dict[str, Entry], rows: dict[str, Row]) -> None:
        keywords = uidlist.read_keywords(self._path)
        modseq = 0
        inserts: list[tuple[object, ...]] = []
        updates: list[tuple[object, ...]] = []
        for record in listed.records:
            entry = entries[record.base]
            row = rows.get(record.base)
            if row is None or row.uid != record.uid:
                modseq = modseq or next_modseq(self._path, state)
                # Renamed between the look and now: the next look finds it, under the UID it has in the list.
                with contextlib.suppress(FileNotFoundError):
                    inserts.append(self._row(state, record, entry, flags_of(entry.letters, keywords), modseq))
                continue
            del rows[record.base]
            if (row.folder, row.name) != (entry.folder, entry.name):
                flags = flags_of(entry.letters, keywords)
                if row.flags != flags:
                    modseq = modseq or next_modseq(self._path, state)
                updates.append(
                    (entry.folder, os.fsencode(entry.name), flags, row.flags != flags, modseq, state.id, record.uid)
                )
        if rows:
            gone = [row.uid for row in rows.values()]
            forget(self._db, state.id, gone, modseq or next_modseq(self._path, state))
        self._db.executemany("INSERT INTO message VALUES (?,?,?,?,?,?,?,?,?,?,?,?,0)", inserts)
        self._db.executemany(
            "UPDATE message SET folder=?, name=?, flags=?, modseq=iif(?, ?, modseq) WHERE mailbox=? AND uid=?", updates
        )

    def _row(self, state: State, record: Record, entry: Entry, flags: str, modseq: int) -> tuple[object, ...]:
        file = self._path / entry.folder / entry.name
        found = os.stat(file)
        size = maildir.stated_size(entry.name) or int(record.field("W") or 0) or wire_size(file)
        return (
            state.id, record.uid, os.fsencode(record.base), entry.folder, os.fsencode(entry.name), flags, modseq, size,
            int(found.st_mtime), int(found.st_ctime), os.fsencode(record.field("G") or record.base), record.field("P"),
        )  # fmt: skip


def wire_size(file: Path) -> int:
    """The octets of a message with CRLF line ends."""
    data = file.read_bytes()
    return len(data) + data.count(b"\n") - data.count(b"\r\n")


def forget(db: sqlite3.Connection, mailbox: int, uids: list[int], modseq: int) -> None:
    """Takes messages out of the index and remembers when they went."""
    db.executemany("DELETE FROM message WHERE mailbox=? AND uid=?", [(mailbox, uid) for uid in uids])
    db.executemany("INSERT OR REPLACE INTO expunged VALUES (?, ?, ?)", [(mailbox, uid, modseq) for uid in uids])
