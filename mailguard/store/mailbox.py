"""One mailbox: what is in it, and every change that IMAP and POP3 make. Safe for threads and for other processes."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mailguard.store import content, maildir, uidlist
from mailguard.store.index import Index
from mailguard.store.snapshot import (
    Changes,
    ExpungedError,
    KeywordLimitError,
    NewMessage,
    NoSuchMailboxError,
    Status,
    StoreResult,
)
from mailguard.store.sync import State, Sync, flags_of, forget, load_state, next_modseq, save_state, stamp
from mailguard.store.uidlist import MAX_KEYWORDS, Record
from mailguard.store.watch import Bell, Registration

_BY_FLAG = {flag.lower(): letter for letter, flag in maildir.LETTERS.items()}
_SETTLE = 0.05  # seconds; a folder changed so shortly before it was read may have changed again unseen
_PATIENCE = 1.0  # seconds between two looks at an unsettled folder
_BULK = 200  # messages described at a time, between which others have their turn
OWN = ("uid", "flags", "modseq", "size", "date", "saved", "guid", "uidl")
COLUMNS = frozenset({*OWN, *content.READY, *content.TERMS, "body"})
"""What ``rows`` can tell. ``date`` is INTERNALDATE and ``saved`` the save date, in Unix time; see ``content``."""


class Mailbox:
    """A mailbox over a Maildir at ``path``. Raises OSError, LockTimeoutError from whatever touches files."""

    def __init__(self, index: Index, path: Path, name: str, host: str, bell: Bell | None = None) -> None:
        self.name = name
        self.path = path
        self._index = index
        self._host = host
        self._turn = threading.RLock()
        self._bell = bell or Bell()
        self._rings = False  # something changed that listeners do not know yet

    def listen(self, callback: Callable[[], object]) -> Registration:
        """Calls back whenever anybody may have changed the mailbox (see ``watch.Bell``), until it is closed."""
        return self._bell.register(self.path, callback)

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[tuple[sqlite3.Connection, State]]:
        """Nobody else changes the mailbox meanwhile, and the index is in line with the files."""
        with self._turn, self._locked(), self._index.write() as db:
            state = load_state(db, self.name)
            if state is None or not self._current(state):
                state = Sync(db, self.path, self.name).run()
            yield db, state
        if self._rings:
            self._rings = False
            self._bell.ring(self.path)

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        if not self.path.is_dir():
            raise NoSuchMailboxError(f"the folder of mailbox {self.name!r} is gone: {self.path}")
        return uidlist.dot_lock(self.path)

    def _current(self, state: State) -> bool:
        if state.stamp != stamp(self.path):
            return False
        newest = max(int(part.split("/")[0]) for part in state.stamp.split() if part != "-") / 1e9
        return newest < state.scanned - _SETTLE or time.time() - state.scanned < _PATIENCE

    def _keep(self, db: sqlite3.Connection, state: State) -> None:
        state.stamp = stamp(self.path)
        state.scanned = time.time()
        save_state(db, state)
        self._rings = True

    @contextlib.contextmanager
    def _read(self) -> Iterator[tuple[sqlite3.Connection, State]]:
        with self._index.lock:
            state = load_state(self._index.db, self.name)
        if state is None or not self._current(state):
            with self._exclusive() as (_, state):
                pass
        with self._index.lock:
            yield self._index.db, state

    def refresh(self) -> int:
        """Looks at the files, takes in what others did, and returns the highest MODSEQ."""
        with self._read() as (_, state):
            return state.highest_modseq

    def status(self) -> Status:
        """The counts, after a look at the files."""
        with self._read() as (db, state):
            query = (
                "SELECT count(*), total(flags NOT LIKE '%\\Seen%'), total(flags LIKE '%\\Deleted%'),"
                " total(uid > ?), total(size) FROM message WHERE mailbox = ?"
            )
            count, unseen, deleted, recent, size = db.execute(query, (state.recent_uid, state.id)).fetchone()
        return Status(
            state.uid_validity, state.next_uid, state.highest_modseq, count, int(unseen), int(deleted), int(recent),
            int(size), state.guid,
        )  # fmt: skip

    def keywords(self) -> list[str]:
        """The keywords that messages here may carry already."""
        return [name for name in uidlist.read_keywords(self.path) if name]

    def uids(self) -> list[int]:
        """All UIDs, ascending."""
        with self._read() as (db, state):
            return [uid for (uid,) in db.execute("SELECT uid FROM message WHERE mailbox=? ORDER BY uid", (state.id,))]

    def rows(self, uids: Sequence[int] | None, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        """These columns (see COLUMNS) of these messages, or of all, by ascending UID; missing UIDs are left out.
        Messages nobody described yet are read first."""
        if not COLUMNS.issuperset(columns):
            raise ValueError(f"unknown columns {set(columns) - COLUMNS}")
        if "body" in columns:
            return self._with_body(uids, columns)
        expressions, joins = content.columns_sql(columns, OWN)
        base = f"SELECT {', '.join(expressions)} FROM message m {joins} WHERE m.mailbox = ?"
        found: list[tuple[Any, ...]] = []
        with self._described(uids) if joins else self._read() as (db, state):
            if uids is None:
                return db.execute(f"{base} ORDER BY m.uid", (state.id,)).fetchall()
            for some in _portions(uids):
                marks = ",".join("?" * len(some))
                found += db.execute(f"{base} AND m.uid IN ({marks}) ORDER BY m.uid", (state.id, *some)).fetchall()
        return found

    def _with_body(self, uids: Sequence[int] | None, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        """BODY without extensions is asked for so rarely that it is not kept."""
        others = [column for column in columns if column != "body"]
        at = columns.index("body")
        found = []
        for uid, *row in self.rows(uids, ["uid", *others]):
            with contextlib.suppress(ExpungedError):
                row.insert(at, content.read(self.raw(uid))[0].body)
                found.append(tuple(row))
        return found

    def containing(self, term: str, text: str) -> list[int]:
        """UIDs whose ``subject``, ``from``, ``to``, ``cc`` or ``bcc`` holds ``text`` (folded as sort.fold does);
        an empty text finds every message that has the field."""
        return self.matching(
            f"instr({{{term}}}, ?) > 0" if text else f"{{{term}}} IS NOT NULL", *([text] if text else [])
        )

    def matching(self, condition: str, *values: int | str) -> list[int]:
        """UIDs for which an SQL condition holds, ascending; columns stand in braces: ``{size} > ?``."""
        columns = sorted(set(re.findall(r"\{(\w+)\}", condition)))
        expressions, joins = content.columns_sql(columns, OWN)
        where = condition.format_map(dict(zip(columns, expressions, strict=True)))
        query = f"SELECT m.uid FROM message m {joins} WHERE m.mailbox = ? AND ({where}) ORDER BY m.uid"
        with self._described(None) if joins else self._read() as (db, state):
            return [uid for (uid,) in db.execute(query, (state.id, *values))]

    @contextlib.contextmanager
    def _described(self, uids: Sequence[int] | None) -> Iterator[tuple[sqlite3.Connection, State]]:
        """As ``_read``, with a description of each of these messages in the index."""
        wanted = None if uids is None else set(uids)
        while True:
            with self._read() as (db, state):
                missing = self._undescribed(db, state, wanted)
                if not missing:
                    yield db, state
                    return
            self._describe(state.id, missing)

    def _undescribed(
        self, db: sqlite3.Connection, state: State, wanted: set[int] | None
    ) -> list[tuple[int, str, bytes]]:
        query = "SELECT uid, folder, name FROM message WHERE mailbox=? AND cid=0 ORDER BY uid"
        if wanted is None:
            return db.execute(f"{query} LIMIT {_BULK}", (state.id,)).fetchall()
        rows = (row for row in db.execute(query, (state.id,)) if row[0] in wanted)
        return list(itertools.islice(rows, _BULK))

    def _describe(self, mailbox: int, messages: Sequence[tuple[int, str, bytes]]) -> None:
        """Reads messages and adds what they hold to the index; never touches a UID or a MODSEQ."""
        found, sizes = [], []
        for uid, folder, name in messages:
            try:
                with open(f"{self.path}/{folder}/{os.fsdecode(name)}", "rb") as file:
                    raw = with_crlf(file.read())
            except FileNotFoundError:
                self._look_again()  # renamed or removed by another program
                continue
            found.append(content.read(raw))
            sizes.append((len(raw), uid))
        with self._index.write() as db:
            cids = content.insert(db, found)
            rows = [(cid, size, mailbox, uid) for cid, (size, uid) in zip(cids, sizes, strict=True)]
            db.executemany("UPDATE message SET cid=?, size=? WHERE mailbox=? AND uid=?", rows)

    def changes(self, since: int) -> Changes:
        """What is new, changed or gone after MODSEQ ``since``."""
        with self._read() as (db, state):
            query = "SELECT uid, flags, modseq FROM message WHERE mailbox=? AND modseq>? ORDER BY uid"
            flags = db.execute(query, (state.id, since)).fetchall()
            query = "SELECT uid FROM expunged WHERE mailbox=? AND modseq>? ORDER BY uid"
            vanished = [uid for (uid,) in db.execute(query, (state.id, since))]
        return Changes(state.highest_modseq, flags, vanished)

    def claim_recent(self) -> int:
        """The UID after which messages are recent for the caller alone, once (RFC 3501 §2.3.2)."""
        with self._exclusive() as (db, state):
            before, state.recent_uid = state.recent_uid, state.next_uid - 1
            save_state(db, state)
        return before

    def file(self, uid: int) -> Path:
        """Where the message's file is now. Raises ExpungedError."""
        with self._read() as (db, state):
            query = "SELECT folder, name FROM message WHERE mailbox=? AND uid=?"
            row = db.execute(query, (state.id, uid)).fetchone()
        if row is None:
            raise ExpungedError(f"{self.name}: no message with UID {uid}")
        return self.path / str(row[0]) / os.fsdecode(row[1])

    def files(self) -> dict[int, str]:
        """Where the file of every message is now, by UID; another program may rename it any time (see ``raw``)."""
        with self._read() as (db, state):
            rows = db.execute("SELECT uid, folder, name FROM message WHERE mailbox=?", (state.id,)).fetchall()
        return {uid: f"{self.path}/{folder}/{os.fsdecode(name)}" for uid, folder, name in rows}

    def raw(self, uid: int) -> bytes:
        """The message's octets with CRLF line ends, whatever the file has. Raises ExpungedError."""
        for _ in range(3):
            try:
                data = self.file(uid).read_bytes()
            except FileNotFoundError:
                # Renamed by another program since we looked.
                self._look_again()
            else:
                return with_crlf(data)
        raise ExpungedError(f"{self.name}: the file of UID {uid} is gone")

    def _look_again(self) -> None:
        with self._turn, self._locked(), self._index.write() as db:
            Sync(db, self.path, self.name).run()

    def append(self, messages: Sequence[NewMessage]) -> list[int]:
        """Adds messages, all or none; returns their UIDs. Each is durable when this returns."""
        spooled: list[tuple[Path, NewMessage]] = []
        described = []
        try:
            for message in messages:
                size = sum(len(chunk) for chunk in message.chunks)
                base = maildir.unique_base(self._host, size)
                spooled.append((maildir.write(self.path, base, message.chunks, mtime=message.date), message))
                described.append(content.read(with_crlf(b"".join(message.chunks))))
            with self._exclusive() as (db, state):
                cids = content.insert(db, described)
                files = [(path, m.flags, cid) for (path, m), cid in zip(spooled, cids, strict=True)]
                return self._add(db, state, files)
        finally:
            for path, _ in spooled:
                path.unlink(missing_ok=True)

    def _add(
        self, db: sqlite3.Connection, state: State, files: Sequence[tuple[Path, tuple[str, ...], int]]
    ) -> list[int]:
        """Renames complete files to ``cur`` and numbers them: ``(file, flags, content id)``."""
        letters = [self._letters(flags) for _, flags, _ in files]
        keywords = uidlist.read_keywords(self.path)
        modseq = next_modseq(self.path, state)
        records, rows = [], []
        for (path, _, cid), some in zip(files, letters, strict=True):
            base = path.name
            name = maildir.join_name(base, some)
            os.rename(path, self.path / "cur" / name)
            found = os.stat(self.path / "cur" / name)
            records.append(Record(state.next_uid, name))
            size = maildir.stated_size(name) or found.st_size
            rows.append((
                state.id, state.next_uid, os.fsencode(base), "cur", os.fsencode(name),
                flags_of("".join(some), keywords), modseq, size, int(found.st_mtime), int(time.time()),
                os.fsencode(base), "", cid,
            ))  # fmt: skip
            state.next_uid += 1
        maildir.sync_folder(self.path / "cur")
        uidlist.append_records(self.path, records)
        db.executemany("INSERT INTO message VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)
        self._keep(db, state)
        return [record.uid for record in records]

    def _letters(self, flags: Iterable[str]) -> list[str]:
        """The letters of some flags; unknown keywords are added to the mailbox's list. Raises KeywordLimitError."""
        names = uidlist.read_keywords(self.path)
        known = {name.lower(): n for n, name in enumerate(names) if name}
        letters, before = [], len(names)
        for flag in flags:
            low = flag.lower()
            if low in _BY_FLAG:
                letters.append(_BY_FLAG[low])
            elif not flag.startswith("\\"):
                if low not in known:
                    if len(names) >= MAX_KEYWORDS:
                        raise KeywordLimitError(f"{self.name} has its {MAX_KEYWORDS} keywords already")
                    known[low] = len(names)
                    names.append(flag)
                letters.append(chr(97 + known[low]))
        if len(names) > before:
            uidlist.write_keywords(self.path, names)
        return letters

    def store(
        self, uids: Sequence[int], mode: str, flags: Iterable[str], *, unchanged_since: int | None = None
    ) -> StoreResult:
        """Adds (``+``), removes (``-``) or replaces (``=``) flags; a message that has them already keeps its MODSEQ."""
        with self._exclusive() as (db, state):
            letters = set(self._letters(flags))
            keywords = uidlist.read_keywords(self.path)
            result = StoreResult([], [])
            updates, modseq = [], 0
            for uid, folder, name, old, seq in self._files(db, state, uids):
                if unchanged_since is not None and seq > unchanged_since:
                    result.modified.append(uid)
                    continue
                base, had, foreign = maildir.split_name(name)
                new = _combine(set(had), letters, mode, len(keywords))
                if new == set(had):
                    result.changed.append((uid, old, seq))
                    continue
                modseq = modseq or next_modseq(self.path, state)
                renamed = maildir.join_name(base, new, foreign)
                with contextlib.suppress(FileNotFoundError):  # gone or renamed by others: the next look tells
                    os.rename(self.path / folder / name, self.path / "cur" / renamed)
                    printed = flags_of("".join(sorted(new)), keywords)
                    updates.append((os.fsencode(renamed), printed, modseq, state.id, uid))
                    result.changed.append((uid, printed, modseq))
            db.executemany(
                "UPDATE message SET folder='cur', name=?, flags=?, modseq=? WHERE mailbox=? AND uid=?", updates
            )
            self._keep(db, state)
        return result

    def _files(
        self, db: sqlite3.Connection, state: State, uids: Sequence[int]
    ) -> Iterator[tuple[int, str, str, str, int]]:
        for some in _portions(uids):
            marks = ",".join("?" * len(some))
            query = f"SELECT uid, folder, name, flags, modseq FROM message WHERE mailbox=? AND uid IN ({marks})"
            for uid, folder, name, flags, modseq in db.execute(f"{query} ORDER BY uid", (state.id, *some)).fetchall():
                yield uid, folder, os.fsdecode(name), flags, modseq

    def expunge(self, uids: Sequence[int] | None = None) -> list[int]:
        """Removes the messages flagged deleted, of ``uids`` if given; returns the UIDs that went."""
        with self._exclusive() as (db, state):
            query = "SELECT uid FROM message WHERE mailbox=? AND flags LIKE '%\\Deleted%' ORDER BY uid"
            gone = [uid for (uid,) in db.execute(query, (state.id,))]
            if uids is not None:
                wanted = set(uids)
                gone = [uid for uid in gone if uid in wanted]
            self._remove(db, state, gone)
        return gone

    def remove(self, uids: Sequence[int]) -> list[int]:
        """Removes messages whatever their flags (POP3's QUIT, MOVE); returns the UIDs that went."""
        with self._exclusive() as (db, state):
            there = [row[0] for row in self._files(db, state, uids)]
            self._remove(db, state, there)
        return there

    def _remove(self, db: sqlite3.Connection, state: State, uids: list[int]) -> None:
        if not uids:
            return
        for _, folder, name, _, _ in self._files(db, state, uids):
            (self.path / folder / name).unlink(missing_ok=True)
        maildir.sync_folder(self.path / "cur")
        listed = uidlist.read_uidlist(self.path)
        if listed is not None:
            gone = set(uids)
            listed.records = [record for record in listed.records if record.uid not in gone]
            listed.next_uid = max(listed.next_uid, state.next_uid)
            uidlist.write_uidlist(self.path, listed)
        forget(db, state.id, uids, next_modseq(self.path, state))
        self._keep(db, state)

    def copy(self, uids: Sequence[int], target: Mailbox) -> list[tuple[int, int]]:
        """Copies by hard link, all or none; returns pairs of old and new UID. INTERNALDATE and flags are kept."""
        with self._read() as (db, state):
            sources = list(self._files(db, state, uids))
            cids = dict(db.execute("SELECT uid, cid FROM message WHERE mailbox=?", (state.id,)))
        linked: list[tuple[Path, tuple[str, ...], int]] = []
        try:
            for uid, folder, name, flags, _ in sources:
                size = maildir.stated_size(name) or os.stat(self.path / folder / name).st_size
                base = maildir.unique_base(self._host, size)
                os.link(self.path / folder / name, target.path / "tmp" / base)
                cid = cids.get(uid, 0) if target._index is self._index else 0
                linked.append((target.path / "tmp" / base, tuple(flags.split()), cid))
            with target._exclusive() as (db, state):
                new = target._add(db, state, linked) if linked else []
        finally:
            for path, _, _ in linked:
                path.unlink(missing_ok=True)
        return [(row[0], uid) for row, uid in zip(sources, new, strict=True)]

    def move(self, uids: Sequence[int], target: Mailbox) -> list[tuple[int, int]]:
        """Copies, then removes; a crash in between leaves a copy in both, never in none (RFC 6851)."""
        pairs = self.copy(uids, target)
        self.remove([old for old, _ in pairs])
        return pairs


def with_crlf(data: bytes) -> bytes:
    """A message's octets with CRLF line ends, whatever its file has."""
    if data.count(b"\n") == data.count(b"\r\n"):
        return data
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def _combine(had: set[str], wanted: set[str], mode: str, keywords: int) -> set[str]:
    if mode == "+":
        return had | wanted
    if mode == "-":
        return had - wanted
    # Letters that we do not know the meaning of are not ours to clear.
    foreign = {c for c in had if c not in maildir.LETTERS and not 0 <= ord(c) - 97 < keywords}
    return wanted | foreign


def _portions(uids: Sequence[int], size: int = 500) -> Iterator[Sequence[int]]:
    for at in range(0, len(uids), size):
        yield uids[at : at + size]
