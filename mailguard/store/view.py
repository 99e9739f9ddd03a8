"""What one mailbox holds, as the index and the files tell it. Safe for threads and beside other processes."""

from __future__ import annotations

import contextlib
import itertools
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mailguard.store import content, uidlist
from mailguard.store.content import with_crlf
from mailguard.store.inventory import plain
from mailguard.store.roster import IN_ROSTER, Roster
from mailguard.store.snapshot import Changes, ExpungedError, Status
from mailguard.store.standing import State, chosen
from mailguard.store.turn import Watched

_FEW = 50  # messages that are looked up one by one
_PART = 100  # of whose messages one part is worth the work on a roster of all of them
_BULK = 200  # messages described at a time, between which others have their turn
COLUMNS = frozenset({*content.OWN, *content.READY, *content.TERMS, "body"})
"""What ``rows`` can tell. ``date`` (``internaldate``) and ``saved`` (``savedate``) are Unix time; ``about`` is the
size, negative where it is an estimate that nobody checked; see ``content``."""


class MailboxView(Watched):
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
        if "body" in columns:
            return self._with_body(uids, columns)
        if IN_ROSTER.issuperset(columns) and (found := self._from_roster(uids, columns)) is not None:
            return found
        expressions, joins = content.columns_sql(columns)
        with self._ready(uids, joins, columns) as (db, state):
            where, values = chosen(db, state, uids)
            query = f"SELECT {', '.join(expressions)} FROM {self._messages} m {joins} WHERE {where} ORDER BY m.id"
            return db.execute(query, values).fetchall()

    def _from_roster(self, uids: Sequence[int] | None, columns: Sequence[str]) -> list[tuple[Any, ...]] | None:
        """None where it is not worth making the roster, or bringing it up to date."""
        if uids is not None and len(uids) <= _FEW:
            return None
        with self._read(fresh=False) as (db, state):
            known = self._index.rosters.get(self._place)
            many = uids is None or len(uids) * _PART >= state.messages
            if not many and (known is None or not known.is_of(state)):
                return None
            return self._roster(db, state).rows(uids, columns)

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

    def few_unseen(self) -> list[int] | None:
        """The UIDs of the messages without \\Seen, ascending, if they are few: the index has a list of them."""
        with self._read(fresh=False) as (db, state):
            if self._unseen(db, state) * _PART > max(state.messages, _FEW * _PART):
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
            query = f"SELECT id - ?, flags FROM {self._messages} m WHERE id BETWEEN ? AND ? ORDER BY id"
            known = Roster.of(mailbox, modseq, db.execute(query, (state.first, state.first, state.last)).fetchall())
        else:
            changed = [(uid, flags) for uid, flags, _ in self._changed(db, state, known.modseq)]
            query = "SELECT id - ? FROM expunged WHERE id >> 32 = ? AND modseq > ?"
            gone = [uid for (uid,) in db.execute(query, (state.first, state.id, known.modseq))]
            known = known.updated(modseq, changed, gone)
        self._index.rosters.put(self._place, known)
        return known

    def sorted_uids(self, uids: Sequence[int] | None, order: Sequence[tuple[str, bool]]) -> list[int]:
        """The messages, or all, in the order of these columns, each with whether it is reversed; equal ones by UID,
        missing ones left out."""
        columns = [column for column, _ in order]
        _, joins = content.columns_sql(columns)
        if uids is not None and len(uids) <= _FEW:
            with self._ready(uids, joins, columns) as (db, state):
                return self._sort(db, state, uids, order)
        with self._ready(None, joins, columns) as (db, state):
            roster, asked = self._roster(db, state), ("SORT", *order)
            every = roster.recall(asked) or roster.remember(asked, self._sort(db, state, None, order))
        if uids is None or uids == roster.uids:
            return list(every)
        return list(filter(set(uids).__contains__, every))

    def _sort(
        self, db: sqlite3.Connection, state: State, uids: Sequence[int] | None, order: Sequence[tuple[str, bool]]
    ) -> list[int]:
        expressions, joins = content.columns_sql(column for column, _ in order)
        keys = [expression + " DESC" * down for (_, down), expression in zip(order, expressions, strict=True)]
        where, values = chosen(db, state, uids)
        order_by = ", ".join([*keys, "m.id"])
        query = f"SELECT m.id - ? FROM {self._messages} m {joins} WHERE {where} ORDER BY {order_by}"
        return [uid for (uid,) in db.execute(query, (state.first, *values))]

    def containing(self, term: str, text: str) -> list[int]:
        """UIDs whose ``subject``, ``from``, ``to``, ``cc`` or ``bcc`` holds ``text`` (folded as sort.fold does);
        an empty text finds every message that has the field."""
        if not text:
            return self.matching(f"{{{term}}} IS NOT NULL")
        return self.matching(f"instr({{{term}}}, ?) > 0", text)

    def matching(self, condition: str, *values: int | str) -> list[int]:
        """UIDs for which an SQL condition holds, ascending; columns stand in braces: ``{size} > ?``."""
        columns = sorted(set(re.findall(r"\{(\w+)\}", condition)))
        expressions, joins = content.columns_sql(columns)
        where = condition.format_map(dict(zip(columns, expressions, strict=True)))
        where = f"m.id BETWEEN ? AND ? AND ({where})"
        with self._ready(None, joins, columns) as (db, state):
            query = f"SELECT m.id - ? FROM {self._messages} m {joins} WHERE {where} ORDER BY m.id"
            return [uid for (uid,) in db.execute(query, (state.first, state.first, state.last, *values))]

    def _ready(
        self, uids: Sequence[int] | None, joins: str, columns: Sequence[str]
    ) -> contextlib.AbstractContextManager[tuple[sqlite3.Connection, State]]:
        if joins:
            return self._described(uids, "cid = 0")
        return self._described(uids, "cid = 0 AND size < 0") if "size" in columns else self._read(fresh=False)

    @contextlib.contextmanager
    def _described(self, uids: Sequence[int] | None, lacking: str) -> Iterator[tuple[sqlite3.Connection, State]]:
        """As ``_read``, after the messages that lack something were read and described."""
        few = uids is not None and len(uids) <= _FEW
        wanted = None if uids is None or few else set(uids)
        while True:
            with self._read(fresh=False) as (db, state):
                where, values = chosen(db, state, uids if few else None)
                query = f"SELECT m.id, m.name FROM message m WHERE {lacking} AND {where} ORDER BY m.id"
                found = ((id, plain(name)) for id, name in db.execute(query, values))
                if wanted is not None:
                    found = (row for row in found if row[0] - state.first in wanted)
                missing = list(itertools.islice(found, _BULK))
                if not missing:
                    yield db, state
                    return
            self._describe(missing)

    def describe_some(self, limit: int) -> int:
        """Describes up to so many messages that nobody asked for yet; returns how many."""
        with self._read() as (db, state):
            query = "SELECT id, name FROM message WHERE cid = 0 AND id BETWEEN ? AND ? ORDER BY id LIMIT ?"
            found = [(id, plain(name)) for id, name in db.execute(query, (state.first, state.last, limit))]
        if found:
            self._describe(found)
        return len(found)

    def _describe(self, messages: Sequence[tuple[int, str]]) -> None:
        """Reads messages and adds what they hold to the index; never touches a UID or a MODSEQ."""
        found, described = [], []
        for id, name in messages:
            try:
                with open(f"{self._at}/cur/{name}", "rb", buffering=0) as file:
                    raw = with_crlf(file.read())
            except FileNotFoundError:
                self._look("all")  # renamed or removed by another program
                break
            described.append(content.read(raw))
            found.append((id, len(raw)))
        with self._index.write() as db:
            content.attach(db, found, described)

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
