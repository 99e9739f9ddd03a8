"""Every change that IMAP and POP3 make to a mailbox. Safe for threads and beside other processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from mailguard.store import maildir, uidlist
from mailguard.store.arrival import Incoming, Receiving
from mailguard.store.content import with_crlf
from mailguard.store.flag import Alphabet
from mailguard.store.forget import Row, compact, forget
from mailguard.store.grave import Grave
from mailguard.store.inventory import plain, stored
from mailguard.store.seen import seen_files
from mailguard.store.snapshot import StoreResult
from mailguard.store.standing import MODSEQ_FILE, chosen, next_modseq, save_state
from mailguard.store.turn import Turn
from mailguard.store.view import COLUMNS

__all__ = ["COLUMNS", "Mailbox", "with_crlf"]

Renaming = tuple[str, str, str, str, type]
"""Flags as printed and the end of a file name from its colon, each before and after; how the index keeps the name."""


class Mailbox(Receiving):
    """A mailbox that can be changed; what the changes return has happened for good. ``grave`` takes what is removed
    if it may come back."""

    grave: Grave | None = None

    def store(
        self, uids: Sequence[int], mode: str, flags: Iterable[str], *, unchanged_since: int | None = None
    ) -> StoreResult:
        """Adds (``+``), removes (``-``) or replaces (``=``) flags; a message that has them already keeps its MODSEQ."""
        wanted, result = list(flags), StoreResult([], [])
        if self._twice(uids, lambda some: self._store(some, mode, wanted, unchanged_since, result)):
            result.changed.sort()
            result.modified.sort()
        return result

    def _twice(self, uids: Sequence[int] | None, act: Callable[[Sequence[int] | None], list[int]]) -> bool:
        """Carries ``act`` out, and, after another look, once more for those messages that it returns because somebody
        else renamed their files under our hands; whether there were any."""
        lost = act(uids)
        if lost:
            self._look("all")
            act(lost)
        return bool(lost)

    def _store(
        self, uids: Sequence[int] | None, mode: str, flags: list[str], since: int | None, result: StoreResult
    ) -> list[int]:
        """Adds to the result; returns the messages whose files were not there."""
        with self._exclusive() as turn:
            return self._flag(turn, uids, mode, flags, since, result)

    def _flag(
        self,
        turn: Turn,
        uids: Sequence[int] | None,
        mode: str,
        flags: list[str],
        since: int | None,
        result: StoreResult,
        *,
        keep: str = "",
    ) -> list[int]:
        """The same within a turn; the letters to ``keep`` are left alone."""
        alphabet = Alphabet.of(self.path)
        change = alphabet.change(mode, flags, keep=keep)
        alphabet.save()
        first, rename = turn.state.first, os.rename
        lost: list[int] = []
        renamed: dict[Renaming, list[int]] = {}
        modseq = 0
        where, values = chosen(turn.db, turn.state, uids)
        query = f"SELECT m.id, m.name, m.flags, m.modseq FROM message m WHERE {where} ORDER BY m.id"
        cur = os.open(f"{self._at}/cur", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # a path is not walked for each
        try:
            for id, kept, old, seq in turn.db.execute(query, values).fetchall():
                if since is not None and seq > since:
                    result.modified.append(id - first)
                    continue
                name = kept if isinstance(kept, str) else os.fsdecode(kept)
                base, colon, info = name.rpartition(":")
                if not colon:  # another program put it into ``cur`` without an info part
                    base, info = name, ""
                new, printed = change(info)
                if new == info:
                    result.changed.append((id - first, old, seq))
                    continue
                modseq = modseq or next_modseq(self._at, turn.state)
                try:
                    rename(name, f"{base}:{new}", src_dir_fd=cur, dst_dir_fd=cur)
                except FileNotFoundError:
                    lost.append(id - first)
                    continue
                renamed.setdefault((old, printed, colon + info, f":{new}", type(kept)), []).append(id)
                result.changed.append((id - first, printed, modseq))
        finally:  # also what was done before a disk or a right failed us
            os.close(cur)
            if renamed:
                self._renamed(turn, renamed, modseq)
                self._keep(turn)
        return lost

    def _renamed(self, turn: Turn, renamed: dict[Renaming, list[int]], modseq: int) -> None:
        """Takes new names and flags into the index: one statement for all messages that changed alike."""
        for (old, printed, before, after, kind), ids in renamed.items():
            turn.state.recount(old, printed, len(ids))
            name, end = "substr(name, 1, length(name) - ?) || ?", stored(after)
            if kind is bytes:
                name, end = f"CAST({name} AS BLOB)", os.fsencode(after)
            where, values = chosen(turn.db, turn.state, [id - turn.state.first for id in ids])
            query = f"UPDATE message AS m SET name={name}, flags=?, modseq=? WHERE {where}"
            turn.db.execute(query, (len(os.fsencode(before)), end, printed, modseq, *values))

    def _rows_of(self, turn: Turn, uids: Sequence[int] | None) -> Iterator[Row]:
        first = turn.state.first
        where, values = chosen(turn.db, turn.state, uids)
        query = f"SELECT m.id, m.name, m.flags, m.modseq, m.size FROM message m WHERE {where} ORDER BY m.id"
        for id, name, flags, modseq, size in turn.db.execute(query, values).fetchall():
            yield Row(id - first, plain(name), flags, modseq, size)

    def expunge(self, uids: Sequence[int] | None = None) -> list[int]:
        """Removes the messages flagged deleted, of ``uids`` if given; returns the UIDs that went."""
        return self._remove(uids, deleted=True)

    def remove(self, uids: Sequence[int]) -> list[int]:
        """Removes messages whatever their flags (POP3's QUIT, MOVE); returns the UIDs that went."""
        return self._remove(uids, deleted=False)

    def _remove(self, uids: Sequence[int] | None, *, deleted: bool) -> list[int]:
        gone: list[int] = []

        def act(some: Sequence[int] | None) -> list[int]:
            with self._exclusive() as turn:
                if deleted and not turn.state.deleted:
                    return []
                rows = [row for row in self._rows_of(turn, some) if not deleted or "\\Deleted" in row.flags]
                went, lost = self._bury(turn, rows)
            gone.extend(went)
            return lost

        if self._twice(uids, act):
            gone.sort()
        return gone

    def _bury(self, turn: Turn, rows: list[Row]) -> tuple[list[int], list[int]]:
        """The UIDs of the messages that went, and of those whose files were not there."""
        went, lost = [], []
        with self._taking_away(len(rows)) as take:
            for row in rows:
                try:
                    take(row.name)
                except FileNotFoundError:
                    lost.append(row.uid)
                else:
                    went.append(row)
        if went:
            self._removed(turn, went)
        return [row.uid for row in went], lost

    @contextlib.contextmanager
    def _taking_away(self, messages: int) -> Iterator[Callable[[str], None]]:
        """Gives what removes a file of ``cur``, by its name."""
        grave = self.grave if messages else None
        if grave is not None and not grave.has_room():
            self.tell("the disk is full: what is removed goes for good", messages=messages)
            grave = None
        if grave is None:
            yield lambda name: os.unlink(f"{self._at}/cur/{name}")
        else:
            with grave.digging(self._at) as bury:
                yield bury

    def _removed(self, turn: Turn, rows: list[Row]) -> None:
        """The files are gone: their lines stay in the uidlist until it is worth writing it anew."""
        turn.sync.add("cur")
        forget(turn.db, self._at, turn.state, rows)
        compact(self._at, turn.db, turn.state)
        self._keep(turn)

    def freeze(self, folder: Path) -> int:
        """Links all messages into ``folder/cur`` and writes their uidlist and keywords beside it: the mailbox as it is
        at one moment. Returns how many there are. Raises OSError."""
        with self._exclusive() as turn:
            rows = list(self._rows_of(turn, None))
            for row in rows:
                maildir.link(f"{self._at}/cur/{row.name}", f"{folder}/cur/{row.name}")
            listed = uidlist.read_uidlist(self.path)
            if listed is not None:
                there = {row.uid for row in rows}
                listed.records = [record for record in listed.records if record.uid in there]
                listed.next_uid = max(listed.next_uid, turn.state.next_uid)
                uidlist.write_uidlist(folder, listed)
            for name in (uidlist.KEYWORDS, MODSEQ_FILE, *seen_files(self.path)):
                with contextlib.suppress(FileNotFoundError):
                    (folder / name).write_bytes((self.path / name).read_bytes())
        return len(rows)

    def claim_recent(self) -> int:
        """The UID after which messages are recent for the caller alone, once (RFC 3501 §2.3.2)."""
        with self._read() as (_, state):
            if state.recent_uid == state.next_uid - 1:
                return state.recent_uid
        with self._exclusive() as turn:
            before, turn.state.recent_uid = turn.state.recent_uid, turn.state.next_uid - 1
            save_state(turn.db, turn.state)
        return before

    def copy(self, uids: Sequence[int], target: Mailbox) -> list[tuple[int, int]]:
        """Copies by hard link, all or none; returns pairs of old and new UID. INTERNALDATE and flags are kept."""
        return self._transfer(uids, target, keep=True)

    def move(self, uids: Sequence[int], target: Mailbox) -> list[tuple[int, int]]:
        """Renames, or copies and then removes: a crash may leave a message in both, never in none (RFC 6851)."""
        return self._transfer(uids, target, keep=False)

    def _transfer(self, uids: Sequence[int], target: Mailbox, *, keep: bool) -> list[tuple[int, int]]:
        try:
            return self._carry(uids, target, keep=keep)
        except FileNotFoundError:  # somebody else renamed a file under our hands, and nothing happened yet
            self._look("all")
            return self._carry(uids, target, keep=keep)

    def _carry(self, uids: Sequence[int], target: Mailbox, *, keep: bool) -> list[tuple[int, int]]:
        with both(self, target) as (turn, to):
            rows = list(self._rows_of(turn, uids))
            if not rows:
                return []
            if target.admit is not None and (keep or target._index is not self._index):
                target.admit(sum(abs(row.size) for row in rows), len(rows))
            rename = not keep and self.path != target.path and self.path.stat().st_dev == target.path.stat().st_dev
            files = []
            for row, date, cid in self._with_dates(turn, rows):
                base = maildir.unique_base(self._host, maildir.octets(row.name), wire_size=abs(row.size))
                shared = cid if target._index is self._index else 0
                flags = tuple(self._told(turn, row).split())
                files.append(Incoming(f"{self._at}/cur/{row.name}", base, flags, row.size, date, shared))
            new = target._add(to, files, put=os.rename if rename else maildir.link)
            self._carried(turn, [row.uid for row in rows], target, to, new)
            if not keep:
                for row in () if rename else rows:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(f"{self._at}/cur/{row.name}")
                self._removed(turn, rows)
        return [(row.uid, uid) for row, uid in zip(rows, new, strict=True)]

    def _told(self, turn: Turn, row: Row) -> str:
        """The flags that clients are told of a message."""
        return row.flags

    def _carried(self, turn: Turn, uids: list[int], target: Mailbox, to: Turn, new: list[int]) -> None:
        """Messages were put into ``target`` under new UIDs, and are still here."""

    def _with_dates(self, turn: Turn, rows: list[Row]) -> Iterator[tuple[Row, int, int]]:
        where, values = chosen(turn.db, turn.state, [row.uid for row in rows])
        query = f"SELECT m.date, m.cid FROM message m WHERE {where} ORDER BY m.id"
        for row, (date, cid) in zip(rows, turn.db.execute(query, values).fetchall(), strict=True):
            yield row, date, cid


@contextlib.contextmanager
def both(one: Mailbox, other: Mailbox) -> Iterator[tuple[Turn, Turn]]:
    """The turns of two mailboxes, taken in one order by everybody; one turn where they are the same."""
    if one.path == other.path:
        with one._exclusive() as turn:
            yield turn, turn
    elif str(one.path) < str(other.path):
        with one._exclusive() as first, other._exclusive() as second:
            yield first, second
    else:
        with other._exclusive() as first, one._exclusive() as second:
            yield second, first
