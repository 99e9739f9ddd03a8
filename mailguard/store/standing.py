"""How a mailbox stands: its row in the index, how its files looked last, and the MODSEQs it gave out."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from mailguard.store import uidlist

MODSEQ_FILE = "mailguard-modseq"
_MANY = 64  # UIDs; fewer are looked up one by one
_BLOCK = 10_000  # modseqs reserved at a time


class Stamps(NamedTuple):
    """What changes when files come, go or are renamed: ``mtime in ns/size/inode`` of each, ``-`` where none is."""

    cur: str
    new: str
    uidlist: str
    keywords: str

    @classmethod
    def of(cls, path: str, *, new: str = "", keywords: str = "") -> Stamps:
        """As they are now, but for those given. The sizes of folders are left out: they say nothing."""
        return cls(_stamp(f"{path}/cur", 0), new or _stamp(f"{path}/new", 0), _stamp(f"{path}/dovecot-uidlist", 1),
                   keywords or _stamp(f"{path}/dovecot-keywords", 1))  # fmt: skip

    @classmethod
    def marked(cls, path: str, *, keywords: str = "") -> Stamps:
        """The same, with a time of its own on ``cur``: whatever others change there from now on shows, even within
        the tick of the kernel's clock in which it changed last."""
        now = time.time_ns()
        with contextlib.suppress(OSError):  # not our folder: then PATIENCE has to do
            os.utime(f"{path}/cur", ns=(now, now))
        return cls.of(path, keywords=keywords)


def stamp_of(path: str) -> str:
    """That of one file."""
    return _stamp(path, 1)


def _stamp(path: str, sized: int) -> str:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return "-"
    return f"{found.st_mtime_ns}/{found.st_size * sized}/{found.st_ino}"


def changed_at(stamp: str) -> float:
    """The time in a stamp, Unix time; the latest that it can mean where the file system keeps whole seconds."""
    at = 0 if stamp == "-" else int(stamp.partition("/")[0])
    return at / 1e9 + (at % 1_000_000_000 == 0)


GRAIN = 0.02
"""Seconds; a folder may change twice within it and show one time only."""

PATIENCE = (1.0, 100.0)
"""A folder that we change ourselves is looked through for changes of others after so many seconds, and so many times
the cost of looking, so that it never takes more than a hundredth of the time."""


@dataclass(slots=True)
class State:
    """The row of a mailbox. ``floor`` is the MODSEQ from which on expunges are known; ``listed`` counts the records
    in the uidlist, those of expunged messages too; ``cur``, ``new``, ``uidlist``, ``keywords`` are stamps. The last
    look at all files began at ``scanned`` (Unix time) and took ``cost`` seconds, that at ``new`` at ``looked``."""

    id: int
    name: str
    guid: str
    uid_validity: int
    next_uid: int
    highest_modseq: int
    floor: int
    recent_uid: int = 0
    messages: int = 0
    unseen: int = 0
    deleted: int = 0
    size: int = 0
    listed: int = 0
    cur: str = "-"
    new: str = "-"
    uidlist: str = "-"
    keywords: str = "-"
    scanned: float = 0.0
    looked: float = 0.0
    cost: float = 0.0
    boot: str = ""

    @property
    def first(self) -> int:
        """The lowest id that a message here can have; ``uid + first`` is the id of a message."""
        return self.id << 32

    @property
    def last(self) -> int:
        """The highest one."""
        return self.first + 0xFFFFFFFF

    def due(self, path: str, now: float, stamps: Stamps | None = None) -> str:
        """What has to be looked at before the row is right: ``all``, ``new`` or nothing (``""``). ``stamps`` are those
        of this moment; without them, it may say ``new`` too early, when it has seen that something is."""
        if stamps is None:
            new = _stamp(f"{path}/new", 0)
            if new != self.new:
                return "new"
            stamps = Stamps.of(path, new=new)
        if (stamps.cur, stamps.uidlist, stamps.keywords) != (self.cur, self.uidlist, self.keywords):
            return "all"
        age = now - self.scanned
        unsettled = changed_at(stamps.cur) >= self.scanned - GRAIN
        if unsettled and not 0 <= age <= max(PATIENCE[0], PATIENCE[1] * self.cost):
            return "all"
        if stamps.new != self.new:
            return "new"
        if changed_at(stamps.new) >= self.looked - GRAIN:
            if os.listdir(f"{path}/new"):
                return "new"
            self.looked = now  # nothing is to be found in it until it changes once more
        return ""

    def stamp(self, stamps: Stamps) -> None:
        """Takes over how the files look."""
        self.cur, self.new, self.uidlist, self.keywords = stamps

    def count(self, flags: str, size: int, sign: int = 1) -> None:
        """A message with these flags came, or went (-1)."""
        self.messages += sign
        self.size += sign * abs(size)
        self.unseen += sign * ("\\Seen" not in flags)
        self.deleted += sign * ("\\Deleted" in flags)

    def recount(self, before: str, after: str, messages: int = 1) -> None:
        """The flags of some messages changed."""
        self.unseen += messages * (("\\Seen" in before) - ("\\Seen" in after))
        self.deleted += messages * (("\\Deleted" in after) - ("\\Deleted" in before))


_COLUMNS = tuple(field.name for field in fields(State))
_row = attrgetter(*_COLUMNS)
_UPDATE = f"UPDATE mailbox SET {', '.join(f'{name}=?' for name in _COLUMNS[2:])} WHERE id=?"
_INSERT = f"INSERT INTO mailbox VALUES ({','.join('?' * len(_COLUMNS))})"


def load_state(db: sqlite3.Connection, name: str) -> State | None:
    """The mailbox's row, None if it was never looked at."""
    row = db.execute("SELECT * FROM mailbox WHERE name = ?", (name,)).fetchone()
    return State(*row) if row else None


def save_state(db: sqlite3.Connection, state: State) -> None:
    """Writes the row back; the name stays, and with it SQLite's list of names."""
    row = _row(state)
    db.execute(_UPDATE, (*row[2:], row[0]))


def insert_state(db: sqlite3.Connection, state: State) -> None:
    """Adds a row; gives the state its id."""
    state.id = db.execute(_INSERT, (None, *_row(state)[1:])).lastrowid or 0


def next_modseq(path: str, state: State) -> int:
    """One higher than ever before; a bound kept beside the mail outlives the index (RFC 7162 §3.1)."""
    if state.boot != boot_id():
        # What the index learnt last before a power cut may be lost: go beyond all that can have been handed out.
        state.highest_modseq = max(state.highest_modseq, first_modseq(path))
        state.boot = boot_id()
    state.highest_modseq += 1
    if state.highest_modseq % _BLOCK == 1 or not os.path.exists(f"{path}/{MODSEQ_FILE}"):
        uidlist.replace(Path(path) / MODSEQ_FILE, f"{state.highest_modseq + _BLOCK}\n")
    return state.highest_modseq


def first_modseq(path: str) -> int:
    """Where to start when there is no index: above all that was handed out, here or by a server before us."""
    with contextlib.suppress(FileNotFoundError, ValueError), open(f"{path}/{MODSEQ_FILE}") as file:
        bound = int(file.read())
        return bound - bound % _BLOCK + _BLOCK
    return 1 << 32


@functools.cache
def boot_id() -> str:
    """Changes whenever the machine starts, ``""`` where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return ""


def chosen(db: sqlite3.Connection, state: State, uids: Sequence[int] | None) -> tuple[str, tuple[Any, ...]]:
    """The SQL condition, and its values, for these messages (in any order) of a mailbox, or for all of them."""
    if uids is None:
        return "m.id BETWEEN ? AND ?", (state.first, state.last)
    if len(uids) == 1:
        return "m.id = ?", (state.first + uids[0],)
    first = state.first
    if uids and uids[-1] - uids[0] == len(uids) - 1 and list(uids) == list(range(uids[0], uids[-1] + 1)):
        return "m.id BETWEEN ? AND ?", (first + uids[0], first + uids[-1])
    ids = [first + uid for uid in uids]
    if len(ids) > _MANY:
        # Mostly it is all that is there between the first and the last: one walk, no look-ups.
        span = (min(ids), max(ids))
        if [id for (id,) in db.execute("SELECT id FROM message WHERE id BETWEEN ? AND ?", span)] == ids:
            return "m.id BETWEEN ? AND ?", span
    return "m.id IN (SELECT value FROM json_each(?))", (json.dumps(ids),)
