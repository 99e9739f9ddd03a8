"""How messages come into a mailbox: complete files that get their names, UIDs and rows."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from mailguard.store import content, durable, maildir, uidlist
from mailguard.store.content import Described, with_crlf
from mailguard.store.flag import Alphabet
from mailguard.store.inventory import stored
from mailguard.store.numbering import append_listed
from mailguard.store.snapshot import NewMessage
from mailguard.store.standing import Stamps, next_modseq, save_state
from mailguard.store.textsearch import SearchableView
from mailguard.store.turn import Turn
from mailguard.store.uidlist import Record

_THREADS = 8  # that write the messages of one APPEND
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


def _write(file: Incoming, message: NewMessage) -> None:
    with _writing(file, message):
        pass


def _writing(file: Incoming, message: NewMessage) -> AbstractContextManager[None]:
    # Ahead of the UID list, which is fsynced for every new message (see _exclusive).
    return durable.writing_ahead(file.path, message.chunks, mtime=message.date)


def _written(files: Sequence[Incoming], messages: Sequence[NewMessage], raws: Sequence[bytes]) -> list[Described]:
    """Writes messages side by side; what they hold is found out while the disk works."""
    if len(files) == 1:
        with _writing(files[0], messages[0]):
            return [content.read(raws[0])]
    with ThreadPoolExecutor(min(_THREADS, len(files))) as pool:
        work = pool.map(_write, files, messages)
        described = [content.read(raw) for raw in raws]
        list(work)
    return described


class Receiving(SearchableView):
    """A mailbox that messages can be added to. ``admit`` asks for room in the account before anything is added."""

    admit: Callable[[int, int], None] | None = None

    def _keep(self, turn: Turn) -> None:
        """Notes how the files look after a change of ours; ``new`` was none of our business."""
        stamps = Stamps.marked(self._at)
        turn.state.stamp(stamps._replace(new=turn.state.new))
        save_state(turn.db, turn.state)
        turn.rings = True

    def append(self, messages: Sequence[NewMessage]) -> list[int]:
        """Adds messages, all or none; returns their UIDs. Each is durable when this returns."""
        files: list[Incoming] = []
        if self.admit is not None:
            self.admit(sum(len(chunk) for message in messages for chunk in message.chunks), len(messages))
        try:
            raws = []
            for message in messages:
                raw = with_crlf(b"".join(message.chunks))
                base = maildir.unique_base(self._host, sum(map(len, message.chunks)), wire_size=len(raw))
                date = int(time.time() if message.date is None else message.date)
                files.append(Incoming(f"{self._at}/tmp/{base}", base, message.flags, len(raw), date, 0))
                raws.append(raw)
            described = _written(files, messages, raws)
            with self._exclusive() as turn:
                return self._add(turn, files, described)
        except BaseException as error:
            for file in files:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(file.path)
            if isinstance(error, FileNotFoundError):
                self.must_exist()
            raise

    def _add(
        self,
        turn: Turn,
        files: Sequence[Incoming],
        described: Sequence[Described] = (),
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
        try:
            cids = content.insert(turn.db, described) if described else [file.cid for file in files]
            modseq, now = next_modseq(self._at, state), int(time.time())
            rows = []
            for uid, name, some, file, cid in zip(uids, names, letters, files, cids, strict=True):
                flags = alphabet.printed(some)
                state.count(flags, file.size)
                rows.append((state.first + uid, stored(name), flags, modseq, file.size, file.date, now, "", "", cid))
            turn.db.executemany(_INSERT, rows)
            self._keep(turn)
        except sqlite3.Error as error:
            self.tell("the index did not take new messages, the next look at the files will", error=str(error))
        return uids

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
