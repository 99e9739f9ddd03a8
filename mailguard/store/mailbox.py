"""Every change that IMAP and POP3 make to a mailbox. Safe for threads and beside other processes."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mailguard.store import content, maildir, uidlist
from mailguard.store.content import with_crlf
from mailguard.store.flag import Alphabet
from mailguard.store.forget import Row, compact, forget
from mailguard.store.grave import Grave
from mailguard.store.snapshot import NewMessage, StoreResult
from mailguard.store.standing import MODSEQ_FILE, Stamps, chosen, next_modseq, save_state
from mailguard.store.sync import append_listed, plain, stored
from mailguard.store.textsearch import SearchableView
from mailguard.store.uidlist import Record
from mailguard.store.view import COLUMNS, Turn

__all__ = ["COLUMNS", "Mailbox", "with_crlf"]

_INSERT = f"INSERT INTO message VALUES ({','.join('?' * 10)})"


class Incoming(NamedTuple):
    """A complete file about to become a message under the base name ``base``. ``size`` is that on the wire, negative
    if it is an estimate; ``cid`` its content id or 0."""

    path: str
    base: str
    flags: tuple[str, ...]
    size: int
    date: int
    cid: int


class Mailbox(SearchableView):
    """A mailbox that can be changed; what the changes return has happened for good. ``grave`` takes what is removed
    if it may come back, ``admit`` asks for room in the account before anything is added."""

    grave: Grave | None = None
    admit: Callable[[int, int], None] | None = None

    def _keep(self, turn: Turn) -> None:
        """Notes how the files look after a change of ours; ``new`` was none of our business."""
        stamps = Stamps.of(self._at)
        turn.state.stamp(stamps._replace(new=turn.state.new))
        save_state(turn.db, turn.state)
        turn.rings = True

    def append(self, messages: Sequence[NewMessage]) -> list[int]:
        """Adds messages, all or none; returns their UIDs. Each is durable when this returns."""
        files: list[Incoming] = []
        described = []
        if self.admit is not None:
            self.admit(sum(len(chunk) for message in messages for chunk in message.chunks), len(messages))
        try:
            for message in messages:
                raw = with_crlf(b"".join(message.chunks))
                octets = sum(len(chunk) for chunk in message.chunks)
                base = maildir.unique_base(self._host, octets, wire_size=len(raw))
                path = maildir.write(self.path, base, message.chunks, mtime=message.date)
                date = int(time.time() if message.date is None else message.date)
                files.append(Incoming(str(path), base, message.flags, len(raw), date, 0))
                described.append(content.read(raw))
            with self._exclusive() as turn:
                return self._add(turn, files, described)
        finally:
            for file in files:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file.path)

    def _add(
        self,
        turn: Turn,
        files: Sequence[Incoming],
        described: Sequence[content.Described] = (),
        *,
        put: Callable[[str, str], None] = os.rename,
    ) -> list[int]:
        """Puts complete files into ``cur`` and numbers them; all or none."""
        alphabet = Alphabet.of(self.path)
        letters = [alphabet.letters(file.flags) for file in files]
        alphabet.save()
        names = [maildir.join_name(file.base, some) for file, some in zip(files, letters, strict=True)]
        state, first = turn.state, turn.state.next_uid
        records = [Record(first + n, name) for n, name in enumerate(names)]
        moved: list[tuple[str, str]] = []
        try:
            for file, name in zip(files, names, strict=True):
                put(file.path, f"{self._at}/cur/{name}")
                moved.append((file.path, f"{self._at}/cur/{name}"))
            append_listed(self._at, state, records)
        except BaseException:
            for source, place in moved:
                os.rename(place, source) if put is os.rename else os.unlink(place)
            raise
        turn.sync |= {"cur", uidlist.UIDLIST}
        uids = [record.uid for record in records]
        # The messages are there: whatever becomes of the index, which the next look puts right, nobody must be told
        # that they are not, and add them once more.
        with contextlib.suppress(sqlite3.Error):
            cids = content.insert(turn.db, described) if described else [file.cid for file in files]
            modseq, now = next_modseq(self._at, state), int(time.time())
            rows = []
            for uid, name, some, file, cid in zip(uids, names, letters, files, cids, strict=True):
                flags = alphabet.printed(some)
                state.count(flags, file.size)
                rows.append((state.first + uid, stored(name), flags, modseq, file.size, file.date, now, "", "", cid))
            turn.db.executemany(_INSERT, rows)
            self._keep(turn)
        return uids

    def store(
        self, uids: Sequence[int], mode: str, flags: Iterable[str], *, unchanged_since: int | None = None
    ) -> StoreResult:
        """Adds (``+``), removes (``-``) or replaces (``=``) flags; a message that has them already keeps its MODSEQ."""
        with self._exclusive() as turn:
            alphabet = Alphabet.of(self.path)
            change = alphabet.change(mode, list(flags))
            alphabet.save()
            state, cur = turn.state, f"{self._at}/cur/"
            result = StoreResult([], [])
            changed, modified = result.changed, result.modified
            updates: list[tuple[str | bytes, str, int, int]] = []
            modseq = 0
            where, values = chosen(turn.db, state, uids)
            query = f"SELECT m.id, m.name, m.flags, m.modseq FROM message m WHERE {where} ORDER BY m.id"
            first, rename = state.first, os.rename
            try:
                for id, kept, old, seq in turn.db.execute(query, values).fetchall():
                    if unchanged_since is not None and seq > unchanged_since:
                        modified.append(id - first)
                        continue
                    name = kept if isinstance(kept, str) else os.fsdecode(kept)
                    base, _, info = name.rpartition(":")
                    new, printed = change(info)
                    if new == info:
                        changed.append((id - first, old, seq))
                        continue
                    modseq = modseq or next_modseq(self._at, state)
                    renamed = f"{base}:{new}"
                    try:
                        rename(cur + name, cur + renamed)
                    except FileNotFoundError:
                        continue  # gone or renamed by others: the next look tells
                    if printed != old:
                        state.recount(old, printed)
                    updates.append((stored(renamed), printed, modseq, id))
                    changed.append((id - first, printed, modseq))
            finally:  # also what was done before a disk or a right failed us
                if updates:
                    turn.db.executemany("UPDATE message SET name=?, flags=?, modseq=? WHERE id=?", updates)
                    self._keep(turn)
        return result

    def _rows_of(self, turn: Turn, uids: Sequence[int] | None) -> Iterator[Row]:
        first = turn.state.first
        where, values = chosen(turn.db, turn.state, uids)
        query = f"SELECT m.id, m.name, m.flags, m.modseq, m.size FROM message m WHERE {where} ORDER BY m.id"
        for id, name, flags, modseq, size in turn.db.execute(query, values).fetchall():
            yield Row(id - first, plain(name), flags, modseq, size)

    def expunge(self, uids: Sequence[int] | None = None) -> list[int]:
        """Removes the messages flagged deleted, of ``uids`` if given; returns the UIDs that went."""
        with self._exclusive() as turn:
            if not turn.state.deleted:
                return []
            gone = [row for row in self._rows_of(turn, uids) if "\\Deleted" in row.flags]
            return self._remove(turn, gone)

    def remove(self, uids: Sequence[int]) -> list[int]:
        """Removes messages whatever their flags (POP3's QUIT, MOVE); returns the UIDs that went."""
        with self._exclusive() as turn:
            return self._remove(turn, list(self._rows_of(turn, uids)))

    def _remove(self, turn: Turn, rows: list[Row], *, bury: bool = True) -> list[int]:
        if rows:
            for row in rows:
                with contextlib.suppress(FileNotFoundError):
                    if self.grave is None or not bury:
                        os.unlink(f"{self._at}/cur/{row.name}")
                    else:
                        self.grave.bury(self._at, row.name)
            self._removed(turn, rows)
        return [row.uid for row in rows]

    def _removed(self, turn: Turn, rows: list[Row]) -> None:
        """The files are gone: their lines stay in the uidlist until it is worth writing it anew."""
        turn.sync.add("cur")
        forget(turn.db, self._at, turn.state, rows)
        compact(self._at, turn.db, turn.state)
        self._keep(turn)

    def take_in(self, paths: Sequence[Path]) -> list[int]:
        """Moves message files from elsewhere in the account into the mailbox, with the flags in their names but not
        \\Deleted; returns their UIDs."""
        with self._exclusive() as turn:
            alphabet, files = Alphabet.of(self.path), []
            for path in paths:
                found = path.stat()
                flags = alphabet.printed(maildir.split_name(path.name)[1].replace("T", ""))
                base = maildir.unique_base(self._host, found.st_size, wire_size=maildir.stated_size(path.name))
                date = int(found.st_mtime)
                files.append(Incoming(str(path), base, tuple(flags.split()), -found.st_size, date, 0))
            return self._add(turn, files) if files else []

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
            for name in (uidlist.KEYWORDS, MODSEQ_FILE):
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
                flags = tuple(row.flags.split())
                files.append(Incoming(f"{self._at}/cur/{row.name}", base, flags, row.size, date, shared))
            new = target._add(to, files, put=os.rename if rename else maildir.link)
            if rename:
                self._removed(turn, rows)
            elif not keep:
                self._remove(turn, rows, bury=False)
        return [(row.uid, uid) for row, uid in zip(rows, new, strict=True)]

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
