"""How a mailbox is looked at: by one who changes it, in turn, and by those who read, after a look at its files."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mailguard.store import uidlist
from mailguard.store.index import Index, IndexTornError
from mailguard.store.lock import FULL, mailbox_lock
from mailguard.store.snapshot import NoSuchMailboxError
from mailguard.store.standing import Stamps, State, load_state, save_state
from mailguard.store.sync import Sync
from mailguard.store.watch import Bell, Registration

_FRESH = 1.0  # seconds for which what was true may be told without another look


@dataclass(slots=True)
class Turn:
    """The time in which nobody else changes the mailbox. ``sync`` names files to be made durable at its end."""

    db: sqlite3.Connection
    state: State
    sync: set[str] = field(default_factory=set)
    rings: bool = False


class Watched:
    """A mailbox over a Maildir at ``path``. ``log`` is told of every repair. Raises OSError, LockTimeoutError from
    whatever touches files."""

    log: Any = None

    def __init__(self, index: Index, path: Path, name: str, host: str, bell: Bell | None = None) -> None:
        self.name = name
        self.path = path
        self._at = os.fspath(path)
        self._index = index
        self._host = host
        self._turn = threading.RLock()
        self._looked = 0.0  # when the files were last known to be as the index says, Unix time
        self._stuck = False  # whether the last look failed for want of room, and the log says so
        self._bell = bell or Bell()
        self._known: tuple[tuple[int, int], State | None] = ((0, 0), None)  # the row as of a version of the index

    def listen(self, callback: Callable[[], object]) -> Registration:
        """Calls back whenever anybody may have changed the mailbox (see ``watch.Bell``), until it is closed."""
        return self._bell.register(self.path, callback)

    def tell(self, text: str, **facts: object) -> None:
        """Says in the log what was repaired here."""
        if self.log is not None:
            self.log.warning(text, mailbox=self.name, path=self._at, **facts)

    def must_exist(self) -> None:
        """Raises NoSuchMailboxError if the folder is gone."""
        if not os.path.isdir(f"{self._at}/cur"):
            raise NoSuchMailboxError(f"the folder of mailbox {self.name!r} is gone: {self._at}")

    @contextlib.contextmanager
    def _exclusive(self, again: str = "", *, sound: bool = False) -> Iterator[Turn]:
        """Nobody else changes the mailbox meanwhile, and the index is in line with the files; ``again`` says what
        must be looked at (see State.due) though nothing seems to have changed, ``sound`` that the index was read a
        moment ago."""
        with self._turn:
            if not sound:  # a torn index is noticed, and made anew, before anything is changed
                with contextlib.suppress(IndexTornError), self._index.read() as db:
                    load_state(db, self.name)
            with self._locked(), self._index.write() as db:
                turn = self._take_turn(db, again)
                yield turn
        # Beside each other where several wait. The list first: a journal writes the renames with it.
        for name in sorted(turn.sync, reverse=True):
            uidlist.sync_file(f"{self._at}/{name}")
        if turn.rings:
            self._bell.ring(self._at)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(mailbox_lock(self._at, tell=self.tell))
            except FileNotFoundError:
                self.must_exist()
                raise
            yield

    def _take_turn(self, db: sqlite3.Connection, again: str = "") -> Turn:
        state = load_state(db, self.name)
        turn = Turn(db, state) if state is not None else None
        stamps = Stamps.of(self._at)
        due = again or (state.due(self._at, time.time(), stamps) if state else "all")
        if due or turn is None:
            sync = Sync(db, self._at, self.name, self._host, self.tell)
            turn = Turn(db, sync.run(state, due, stamps))
            if sync.listed_more:
                turn.sync.add(uidlist.UIDLIST)
            save_state(db, turn.state)
        return turn

    @contextlib.contextmanager
    def _read(self, *, fresh: bool = True) -> Iterator[tuple[sqlite3.Connection, State]]:
        """The index, in line with the files: a moment ago if it must be ``fresh``, else not long ago. Where nothing
        can be written, it is as the last look found it."""
        failed: Exception | None = None
        for attempt in range(4):
            last = attempt > 0  # what changed since the look is another's, and not needed
            told = False
            try:
                with self._index.read(fresh=fresh) as db:
                    state = self._standing(db)
                    if state is not None and (last or not self._due(state, fresh)):
                        told = True
                        yield db, state
                        return
            except IndexTornError:
                if told:
                    raise
            try:
                self._look()
            except (OSError, sqlite3.OperationalError) as error:
                if failed is not None or not _no_room(error):
                    raise
                failed = error
                if not self._stuck:
                    self.tell("nothing can be written: mail is shown as it was at the last look", error=str(error))
                self._stuck = True
        raise IndexTornError(f"the index of {self.name!r} vanished while it was read; try again")

    def _standing(self, db: sqlite3.Connection) -> State | None:
        """The mailbox's row, for reading only."""
        version = self._index.version()
        if version != self._known[0]:
            self._known = version, load_state(db, self.name)
        return self._known[1]

    def _unchanged(self, fresh: bool) -> State | None:
        """The row, if nobody changed the index since it was read, and nothing has to be looked at."""
        version, state = self._known
        with self._index.lock:
            self._index.check()
            if state is None or self._index.version() != version:
                return None
        return None if self._due(state, fresh) else state

    def _due(self, state: State, fresh: bool) -> str:
        now = time.time()
        if not fresh and 0 <= now - self._looked < _FRESH:
            return ""
        try:
            due = state.due(self._at, now)
        except FileNotFoundError:
            return "all"
        if not due:
            self._looked = now
        return due

    def _look(self, again: str = "") -> int:
        """Returns the highest MODSEQ then."""
        try:
            with self._exclusive(again, sound=True) as turn:
                self._looked = time.time()
        except IndexTornError:  # not only so: what was changed is in the files
            with self._exclusive(again) as turn:
                self._looked = time.time()
        self._stuck = False
        return turn.state.highest_modseq

    def refresh(self) -> int:
        """Looks at the files, takes in what others did, and returns the highest MODSEQ."""
        with contextlib.suppress(IndexTornError):
            with self._index.read(fresh=True) as db:
                state = self._standing(db)
                if state is not None and not self._due(state, True):
                    return state.highest_modseq
            try:
                return self._look()  # what it finds need not be read once more
            except (OSError, sqlite3.OperationalError) as error:
                if not _no_room(error):
                    raise
        with self._read() as (_, state):
            return state.highest_modseq


def _no_room(error: OSError | sqlite3.OperationalError) -> bool:
    """Whether the disk is full or read-only, where mail may still be read."""
    if isinstance(error, OSError):
        return error.errno in (*FULL, errno.EROFS)
    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY)
