"""What one mailbox holds, as the index and the files tell it. Safe for threads and beside other processes."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mailguard.model.mime import Part, parse
from mailguard.protocol.imap.bodystructure import print_structures
from mailguard.protocol.imap.describe import preview
from mailguard.store import content, uidlist
from mailguard.store.content import with_crlf
from mailguard.store.described import FEW, Described
from mailguard.store.inventory import plain
from mailguard.store.roster import IN_ROSTER, Roster
from mailguard.store.snapshot import Changes, ExpungedError, Status
from mailguard.store.standing import State, chosen

_PART = 100  # of whose messages one part is worth the work on a roster of all of them
_WITH_CONTENTS = frozenset({"uid", "flags", "cid"})
_READ = frozenset({"body", "preview"})  # not kept: made of the message when they are asked for
COLUMNS = frozenset({*content.OWN, *content.TERMS, *_READ})
"""What ``rows`` can tell. ``date`` (``internaldate``) and ``saved`` (``savedate``) are Unix time; ``about`` is the
size, negative where it is an estimate that nobody checked; see ``content``."""


class MailboxView(Described):
    """A mailbox over a Maildir, for reading. Raises OSError, LockTimeoutError from whatever touches files."""

    def status(self) -> Status:
        """The counts, after a look at the files. The cost does not depend on their number."""
        with self._read() as (db, state):
            unseen, recent = self._unseen(db, state), state.next_uid - 1 - state.recent_uid
            if recent:
                query = "SELECT count(*) FROM message WHERE id BETWEEN ? AND ?"
                (recent,) = db.execute(query, (state.first + state.recent_uid + 1, state.last)).fetchone()
        return Status(
            state.uid_validity, state.next_uid, state.highest_modseq, state.messages, unseen, state.deleted,
            recent, state.size, state.guid,
        )  # fmt: skip

    @property
    def _messages(self) -> str:
        """What to select messages from, with the flags and MODSEQs that are told here. Hold the index's lock."""
        return "message"

    def _unseen(self, db: sqlite3.Connection, state: State) -> int:
        return state.unseen

    def _changed(self, db: sqlite3.Connection, state: State, since: int) -> Iterable[tuple[int, str, int]]:
        """UID, flags and MODSEQ of the messages that came or changed after a MODSEQ."""
        query = "SELECT id - ?, flags, modseq FROM message WHERE id >> 32 = ? AND modseq > ?"
        return db.execute(query, (state.first, state.id, since))

    def uid_validity(self) -> int:
        """The UIDVALIDITY; one that changed in the last second may be missing."""
        with self._read(fresh=False) as (_, state):
            return state.uid_validity

    def deleted_size(self) -> int:
        """The octets of all messages flagged deleted."""
        with self._read() as (db, state):
            query = "SELECT total(abs(size)) FROM message WHERE id BETWEEN ? AND ? AND flags LIKE '%\\Deleted%'"
            return int(db.execute(query, (state.first, state.last)).fetchone()[0])

    def keywords(self) -> list[str]:
        """The keywords that messages here may carry already."""
        return [name for name in uidlist.read_keywords(self.path) if name]

    def uids(self) -> list[int]:
        """All UIDs, ascending."""
        with self._read() as (db, state):
            return list(self._roster(db, state).uids)  # who asks for all of them asks for their flags next

    def rows(self, uids: Sequence[int] | None, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        """These columns (see COLUMNS) of these messages, or of all, by ascending UID; missing UIDs are left out.
        Messages nobody described yet are read first. What others did in the last second may be missing: ``refresh``
        looks at once."""
        if not COLUMNS.issuperset(columns):
            raise ValueError(f"unknown columns {set(columns) - COLUMNS}")
        if not _READ.isdisjoint(columns):
            return self._with_read(uids, columns)
        if IN_ROSTER.issuperset(columns) and (found := self._from_roster(uids, columns)) is not None:
            return found
        with self._ready(uids, columns) as (db, state):
            return self._select(db, state, uids, columns)

    def _select(
        self, db: sqlite3.Connection, state: State, uids: Sequence[int] | None, columns: Sequence[str]
    ) -> list[tuple[Any, ...]]:
        if not content.TERMS.isdisjoint(columns):
            return list(zip(*self._columns(db, state, uids, columns), strict=True))
        where, values = chosen(db, state, uids)
        query = f"SELECT {content.own(columns)} FROM {self._messages} m WHERE {where} ORDER BY m.id"
        return db.execute(query, values).fetchall()

    def _columns(
        self, db: sqlite3.Connection, state: State, uids: Sequence[int] | None, columns: Sequence[str]
    ) -> list[Sequence[Any]]:
        """The same as one sequence for each column."""
        terms = [column for column in columns if column in content.TERMS]
        own = ["cid"] * bool(terms) + ["date"] * ("sent" in terms) + [each for each in columns if each not in terms]
        found = self._own(db, state, uids, own)
        if terms:
            found |= content.gather(db, found["cid"], found.get("date", ()), terms)
        return [found[column] for column in columns]

    def _own(
        self, db: sqlite3.Connection, state: State, uids: Sequence[int] | None, columns: Sequence[str]
    ) -> dict[str, Sequence[Any]]:
        """The same of columns of OWN, by name."""
        many = uids is None or len(uids) * _PART >= state.messages
        if many and _WITH_CONTENTS.issuperset(columns):
            roster = self._roster(db, state) if "flags" in columns else self._members(db, state)
            query = "SELECT cid FROM message WHERE id BETWEEN ? AND ? ORDER BY id"
            contents = roster.contents(
                content.epoch(db), lambda uid: (cid for (cid,) in db.execute(query, (state.first + uid, state.last)))
            )
            return dict(zip(columns, roster.columns(uids, columns, contents), strict=True))
        rows = self._select(db, state, uids, columns)
        return dict(zip(columns, zip(*rows, strict=True) if rows else [()] * len(columns), strict=True))

    def _from_roster(self, uids: Sequence[int] | None, columns: Sequence[str]) -> list[tuple[Any, ...]] | None:
        """None where it is not worth making the roster, or bringing it up to date."""
        if uids is not None and len(uids) <= FEW:
            return None
        with self._read(fresh=False) as (db, state):
            known = self._index.rosters.get(self._place)
            many = uids is None or len(uids) * _PART >= state.messages
            if not many and (known is None or not known.is_of(state)):
                return None
            return list(zip(*self._roster(db, state).columns(uids, columns), strict=True))

    def _with_read(self, uids: Sequence[int] | None, columns: Sequence[str]) -> list[tuple[Any, ...]]:
        found = []
        for uid, *row in self.rows(uids, ["uid", *(column for column in columns if column not in _READ)]):
            with contextlib.suppress(ExpungedError):
                root, known = parse(self.raw(uid)), iter(row)
                found.append(tuple(_made(column, root) if column in _READ else next(known) for column in columns))
        return found

    def few_unseen(self) -> list[int] | None:
        """The UIDs of the messages without \\Seen, ascending, if they are few: the index has a list of them."""
        with self._read(fresh=False) as (db, state):
            if self._unseen(db, state) * _PART > max(state.messages, FEW * _PART):
                return None
            where = "m.id BETWEEN ? AND ? AND instr(m.flags, '\\Seen') = 0"
            query = f"SELECT m.id - ? FROM {self._messages} m WHERE {where} ORDER BY m.id"
            return [uid for (uid,) in db.execute(query, (state.first, state.first, state.last))]

    def roster(self) -> Roster:
        """All messages and their flags, in memory."""
        with self._read(fresh=False) as (db, state):
            return self._roster(db, state)

    @property
    def _place(self) -> tuple[object, ...]:
        return self._index.path, self.name

    def _roster(self, db: sqlite3.Connection, state: State) -> Roster:
        known, modseq = self._index.rosters.get(self._place), state.highest_modseq
        if known is not None and known.is_of(state):
            return known
        mailbox = state.id, state.uid_validity
        if known is None or known.mailbox != mailbox or not state.floor <= known.modseq < modseq:
            query = f"SELECT id - ?, flags, cid FROM {self._messages} m WHERE id BETWEEN ? AND ? ORDER BY id"
            rows = db.execute(query, (state.first, state.first, state.last)).fetchall()
            known = Roster.of(mailbox, modseq, [row[:2] for row in rows])
            known.contents(content.epoch(db), lambda _: (row[2] for row in rows))
        else:
            changed = [(uid, flags) for uid, flags, _ in self._changed(db, state, known.modseq)]
            query = "SELECT id - ? FROM expunged WHERE id >> 32 = ? AND modseq > ?"
            gone = [uid for (uid,) in db.execute(query, (state.first, state.id, known.modseq))]
            known = known.updated(modseq, changed, gone)
        self._index.rosters.put(self._place, known)
        return known

    def _members(self, db: sqlite3.Connection, state: State) -> Roster:
        """The same of the same messages; their flags may be old."""
        known = self._index.rosters.get(self._place)
        if known is not None and known.mailbox == (state.id, state.uid_validity) and known.modseq >= state.floor:
            query = "SELECT 1 FROM expunged WHERE id >> 32 = ? AND modseq > ? LIMIT 1"
            if len(known.uids) == state.messages and not db.execute(query, (state.id, known.modseq)).fetchone():
                return known
        return self._roster(db, state)

    def sorted_uids(self, uids: Sequence[int] | None, order: Sequence[tuple[str, bool]]) -> list[int]:
        """The messages, or all, in the order of these columns, each with whether it is reversed; equal ones by UID,
        missing ones left out."""
        columns = [column for column, _ in order]
        if uids is not None and len(uids) <= FEW:
            with self._ready(uids, columns) as (db, state):
                return self._sort(db, state, uids, order)
        with self._ready(None, columns) as (db, state):
            roster, asked = self._members(db, state), ("SORT", *order)
            every = roster.recall(asked) or roster.remember(asked, self._sort(db, state, None, order))
        if uids is None or uids == roster.uids:
            return list(every)
        return list(filter(set(uids).__contains__, every))

    def _sort(
        self, db: sqlite3.Connection, state: State, uids: Sequence[int] | None, order: Sequence[tuple[str, bool]]
    ) -> list[int]:
        uids, *keys = self._columns(db, state, uids, ["uid", *(column for column, _ in order)])
        places = list(range(len(uids)))
        for key, (_, reverse) in zip(reversed(keys), reversed(order), strict=True):
            places.sort(key=key.__getitem__, reverse=reverse)
        return [uids[place] for place in places]

    def containing(self, term: str, text: str, uids: Sequence[int] | None = None) -> list[int]:
        """UIDs, among ``uids`` if given, whose ``subject``, ``from``, ``to``, ``cc`` or ``bcc`` holds ``text`` (folded
        as sort.fold does); an empty text finds every message that has the field."""
        columns = ("uid", term)
        with self._ready(uids, columns) as (db, state):
            some, values = self._columns(db, state, uids, columns)
        return [uid for uid, value in zip(some, values, strict=True) if value is not None and text in value]

    def matching(self, condition: str, *values: int | str) -> list[int]:
        """UIDs for which an SQL condition holds, ascending; columns (see ``content.OWN``) stand in braces:
        ``{size} > ?``."""
        columns = sorted(set(re.findall(r"\{(\w+)\}", condition)))
        where = f"m.id BETWEEN ? AND ? AND ({condition.format_map(content.OWN)})"
        with self._ready(None, columns) as (db, state):
            query = f"SELECT m.id - ? FROM {self._messages} m WHERE {where} ORDER BY m.id"
            return [uid for (uid,) in db.execute(query, (state.first, state.first, state.last, *values))]

    def changes(self, since: int, *, fresh: bool = True) -> Changes:
        """What is new, changed or gone after MODSEQ ``since``; what other programs did in the last second may be
        missing unless it must be ``fresh``."""
        if (known := self._unchanged(fresh)) is not None and since >= known.highest_modseq:
            return Changes(known.highest_modseq, [], [], since >= known.floor)
        with self._read(fresh=fresh) as (db, state):
            flags = sorted(self._changed(db, state, since))
            query = "SELECT id - ? FROM expunged WHERE id >> 32 = ? AND modseq > ?"
            vanished = sorted(uid for (uid,) in db.execute(query, (state.first, state.id, since)))
        return Changes(state.highest_modseq, flags, vanished, since >= state.floor)

    def place(self, name: str | bytes) -> str:
        """Where the file lies that ``rows`` calls ``name``; another program may rename it any time (see ``raw``)."""
        return f"{self._at}/cur/{plain(name)}"

    def file(self, uid: int) -> Path:
        """Where the message's file is now. Raises ExpungedError."""
        return Path(self._file(uid))

    def _file(self, uid: int) -> str:
        with self._read(fresh=False) as (db, state):
            row = db.execute("SELECT name FROM message WHERE id=?", (state.first + uid,)).fetchone()
        if row is None:
            raise ExpungedError(f"{self.name}: no message with UID {uid}")
        return f"{self._at}/cur/{plain(row[0])}"

    def files(self) -> dict[int, str]:
        """Where the file of every message is now, by UID; another program may rename it any time (see ``raw``)."""
        with self._read() as (db, state):
            query = "SELECT id, name FROM message WHERE id BETWEEN ? AND ?"
            rows = db.execute(query, (state.first, state.last)).fetchall()
        return {id - state.first: f"{self._at}/cur/{plain(name)}" for id, name in rows}

    def raw(self, uid: int) -> bytes:
        """The message's octets with CRLF line ends, whatever the file has. Raises ExpungedError."""
        for _ in range(3):
            try:
                with open(self._file(uid), "rb", buffering=0) as file:
                    return with_crlf(file.read())
            except FileNotFoundError:
                self._look("all")  # renamed by another program since we looked
        raise ExpungedError(f"{self.name}: the file of UID {uid} is gone")


def _made(column: str, root: Part) -> str:
    return print_structures(root)[1].decode("latin-1") if column == "body" else preview(root)
