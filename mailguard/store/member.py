"""A shared mailbox as one member sees it: all flags are everybody's but ``\\Seen``, which is the member's own.

The member's file (see ``seen``) is the truth; the tables ``reader`` and ``seen`` of the index are a cache of it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mailguard.store import content
from mailguard.store.arrival import Incoming
from mailguard.store.forget import Row
from mailguard.store.index import Index
from mailguard.store.mailbox import Mailbox
from mailguard.store.seen import SeenError, SeenFile, seen_files, seen_name
from mailguard.store.snapshot import StoreResult
from mailguard.store.standing import State, chosen, next_modseq, save_state, stamp_of
from mailguard.store.turn import Turn
from mailguard.store.watch import Bell

_FLAGS = "trim(replace(' ' || m.flags || ' ', ' \\Seen ', ' ') || iif(coalesce(s.seen, 0), '\\Seen', '')) AS flags"
_MODSEQ = "max(m.modseq, coalesce(s.modseq, 0)) AS modseq"
_PUT = "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)"
_LETTER = "S"  # of \Seen in a file name


def _is_seen(flag: str) -> bool:
    return flag.lower() == "\\seen"


class MemberMailbox(Mailbox):
    """The mailbox for ``member``, who shares it with others."""

    def __init__(self, index: Index, path: Path, name: str, host: str, bell: Bell | None, member: str) -> None:
        super().__init__(index, path, name, host, bell)
        self.member = member
        self._seen_name = seen_name(member)
        self._file_of_seen = SeenFile(f"{self._at}/{self._seen_name}")
        self._reader: tuple[tuple[int, int], int, str] = ((-1, -1), 0, "")
        # As of a version of the index: the reader's id there, and how the file looked.

    # What is told.

    @property
    def _place(self) -> tuple[object, ...]:
        return *super()._place, self.member

    @property
    def _messages(self) -> str:
        return (
            f"(SELECT m.id, m.name, {_FLAGS}, {_MODSEQ}, m.size, m.date, m.saved, m.guid, m.uidl, m.cid"
            f" FROM message m LEFT JOIN seen s ON s.id = m.id AND s.reader = {self._reader[1]})"
        )

    def _unseen(self, db: sqlite3.Connection, state: State) -> int:
        (seen,) = db.execute("SELECT total(seen) FROM seen WHERE reader = ?", (self._reader[1],)).fetchone()
        return state.messages - int(seen)

    def _changed(self, db: sqlite3.Connection, state: State, since: int) -> Iterable[tuple[int, str, int]]:
        query = (
            f"SELECT m.id - ?, m.flags, m.modseq FROM {self._messages} m WHERE m.id IN (SELECT id FROM message WHERE"
            " id >> 32 = ? AND modseq > ? UNION SELECT id FROM seen WHERE reader = ? AND modseq > ?)"
        )
        return db.execute(query, (state.first, state.id, since, self._reader[1], since))

    # The cache of the file.

    def _standing(self, db: sqlite3.Connection) -> State | None:
        state = super()._standing(db)
        if state is not None and self._reader[0] != self._known[0]:
            self._reader = (self._known[0], *self._row(db, state))
        return state

    def _row(self, db: sqlite3.Connection, state: State) -> tuple[int, str]:
        query = "SELECT id, stamp FROM reader WHERE mailbox = ? AND name = ?"
        found = db.execute(query, (state.id, self.member)).fetchone()
        return (found[0], found[1]) if found else (0, "")

    def _due(self, state: State, fresh: bool) -> str:
        return super()._due(state, fresh) or ("seen" if stamp_of(self._file_of_seen.path) != self._reader[2] else "")

    def _take_turn(self, db: sqlite3.Connection, again: str = "") -> Turn:
        turn = super()._take_turn(db, again)
        reader, stamp = self._row(db, turn.state)
        if not reader or stamp != stamp_of(self._file_of_seen.path):
            reader = self._take_in(turn, reader)
        self._reader = ((-1, -1), reader, "")  # to be read again: this turn may come to nothing
        return turn

    def _take_in(self, turn: Turn, reader: int) -> int:
        """Brings the cache in line with the file; returns the reader's id."""
        db, state = turn.db, turn.state
        query = "SELECT id - ?, instr(flags, '\\Seen') > 0 FROM message WHERE id BETWEEN ? AND ? ORDER BY id"
        shared = dict(db.execute(query, (state.first, state.first, state.last)))
        seen = self._read_seen(state, shared)
        if reader:
            told = {
                uid for (uid,) in db.execute("SELECT id - ? FROM seen WHERE reader = ? AND seen", (state.first, reader))
            }
        else:
            told = {uid for uid, flag in shared.items() if flag}  # so far it was everybody's flag
            insert = "INSERT INTO reader (mailbox, name, stamp) VALUES (?, ?, '')"
            reader = db.execute(insert, (state.id, self.member)).lastrowid or 0
            db.executemany(_PUT, ((state.first + uid, reader, 1, 0) for uid in seen & told))
        if changed := seen ^ told:
            modseq = next_modseq(self._at, state)
            db.executemany(_PUT, ((state.first + uid, reader, uid in seen, modseq) for uid in changed))
            turn.rings = True
        self._stamped(turn, reader)
        return reader

    def _read_seen(self, state: State, shared: dict[int, int]) -> set[int]:
        """What the member has seen. Who never looked here has seen what everybody has."""
        uids = list(shared)
        try:
            seen, long = self._file_of_seen.read(state.uid_validity, uids)
        except (SeenError, FileNotFoundError) as error:
            if isinstance(error, SeenError):
                text = "what a member has seen cannot be told any more: it begins anew with what everybody has seen"
                self.tell(text, member=self.member, reason=str(error))
            seen, long = {uid for uid, flag in shared.items() if flag}, True
        if long:
            self._file_of_seen.write(state.uid_validity, uids, seen)
        return seen

    def _stamped(self, turn: Turn, reader: int) -> None:
        stamp = stamp_of(self._file_of_seen.path)
        turn.db.execute("UPDATE reader SET stamp = ? WHERE id = ?", (stamp, reader))
        save_state(turn.db, turn.state)

    # What is changed.

    def _mark(self, turn: Turn, uids: Sequence[int], seen: bool) -> None:
        """These messages were seen, or not after all."""
        first, reader = turn.state.first, self._reader[1]
        modseq = next_modseq(self._at, turn.state)
        self._file_of_seen.add(uids, seen)
        turn.db.executemany(_PUT, ((first + uid, reader, seen, modseq) for uid in uids))
        turn.sync.add(self._seen_name)
        turn.rings = True
        self._stamped(turn, reader)

    def _store(
        self, uids: Sequence[int] | None, mode: str, flags: list[str], since: int | None, result: StoreResult
    ) -> list[int]:
        others = [flag for flag in flags if not _is_seen(flag)]
        wanted = mode != "-" if len(others) < len(flags) else False if mode == "=" else None
        with self._exclusive() as turn:
            rows = self._flags_of(turn, uids)
            if since is not None:
                result.modified.extend(uid for uid, _, modseq in rows if modseq > since)
                rows = [row for row in rows if row[2] <= since]
            lost: list[int] = []
            if others or mode == "=":
                every = [uid for uid, _, _ in rows]
                lost = self._flag(turn, every, mode, others, None, StoreResult([], []), keep=_LETTER)
            there = [row for row in rows if row[0] not in set(lost)] if lost else rows
            if wanted is not None:
                changed = [uid for uid, told, _ in there if ("\\Seen" in told) != wanted]
                if changed:
                    self._mark(turn, changed, wanted)
            if there:
                result.changed.extend(self._flags_of(turn, [uid for uid, _, _ in there]))
        return lost

    def _flags_of(self, turn: Turn, uids: Sequence[int] | None) -> list[tuple[int, str, int]]:
        """UID, flags and MODSEQ of messages as the member sees them."""
        where, values = chosen(turn.db, turn.state, uids)
        query = f"SELECT m.id - ?, m.flags, m.modseq FROM {self._messages} m WHERE {where} ORDER BY m.id"
        return turn.db.execute(query, (turn.state.first, *values)).fetchall()

    def _told(self, turn: Turn, row: Row) -> str:
        return self._flags_of(turn, [row.uid])[0][1]

    def _add(
        self,
        turn: Turn,
        files: Sequence[Incoming],
        described: Sequence[content.Described] = (),
        *,
        put: Callable[[str, str], None] = os.rename,
    ) -> list[int]:
        plain = [file._replace(flags=tuple(flag for flag in file.flags if not _is_seen(flag))) for file in files]
        uids = super()._add(turn, plain, described, put=put)
        seen = [uid for uid, file, bare in zip(uids, files, plain, strict=True) if file.flags != bare.flags]
        if seen:
            try:
                self._mark(turn, seen, True)
            except (OSError, sqlite3.Error) as error:  # the messages are there, only unseen
                self.tell("new messages could not be marked as seen", member=self.member, error=str(error))
        return uids

    def _carried(self, turn: Turn, uids: list[int], target: Mailbox, to: Turn, new: list[int]) -> None:
        """What the other members had seen they have seen in the other mailbox, too."""
        if not isinstance(target, MemberMailbox) or target._index is not self._index:
            return
        for name in seen_files(self.path):
            if name == self._seen_name:
                continue
            try:
                seen, _ = SeenFile(f"{self._at}/{name}").read(turn.state.uid_validity, uids)
                if seen:
                    target._others_saw(to, name, [there for here, there in zip(uids, new, strict=True) if here in seen])
            except (OSError, SeenError) as error:
                self.tell("what another member had seen could not be carried over", file=name, error=str(error))

    def _others_saw(self, turn: Turn, name: str, uids: list[int]) -> None:
        file, state = SeenFile(f"{self._at}/{name}"), turn.state
        if not os.path.exists(file.path):
            query = "SELECT id - ?, instr(flags, '\\Seen') > 0 FROM message WHERE id BETWEEN ? AND ? ORDER BY id"
            shared = dict(turn.db.execute(query, (state.first, state.first, state.last)))
            file.write(state.uid_validity, shared, {uid for uid, flag in shared.items() if flag})
        file.add(uids, seen=True)
        turn.sync.add(name)
