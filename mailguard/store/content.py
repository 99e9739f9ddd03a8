"""What the index keeps of a message's content: answers ready to be sent, and terms to search, sort and thread by."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from operator import lt
from typing import Any

from mailguard.protocol.imap.describe import Description, describe
from mailguard.store import parcel
from mailguard.store.parcel import SECTIONS, SIZE, Parcel

Described = tuple[Description, str]
"""A message's description and its EMAILID."""

SCHEMA = """
CREATE TABLE parcel (id INTEGER PRIMARY KEY, kept INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE loose (cid INTEGER PRIMARY KEY, ready BLOB NOT NULL, terms BLOB NOT NULL);
CREATE TABLE arrival (base TEXT PRIMARY KEY, cid INTEGER NOT NULL, at INTEGER NOT NULL);
"""
# A parcel (see there) is two rows, one for each section; the id is cid >> 8 << 1, plus the section. Its messages are
# loose until all of them are there. ``kept`` counts those that are kept.

_PIECE = 1 << 20  # octets
_WORN = 0.75  # part of a parcel that may be in use where it is worth packing anew

TERMS = frozenset({*SECTIONS[0], *SECTIONS[1], "sent"})
"""Columns that ``gather`` knows; ``sent`` is ``sent_at``, or INTERNALDATE where that is unknown (RFC 5256 §2.2)."""


def email_id(raw: bytes) -> str:
    """An EMAILID (RFC 8474 §5.1): the same for the same octets, wherever they lie."""
    return "M" + base64.urlsafe_b64encode(hashlib.blake2b(raw, digest_size=15).digest()).decode()


_LAST = f"""SELECT max((SELECT coalesce(max(cid), 0) FROM loose),
 (SELECT coalesce(max(id) >> 1, -1) * {SIZE} + {SIZE - 1} FROM parcel))"""


def insert(db: sqlite3.Connection, described: Iterable[Described]) -> list[int]:
    """Adds descriptions with their EMAILIDs; returns their content ids. Call within a write transaction."""
    (last,) = db.execute(_LAST).fetchone()
    rows = {}
    for cid, (description, id) in enumerate(described, last + 1):
        ready, terms = parcel.record(description, id)
        rows[cid] = (parcel.joined(ready), parcel.joined(terms))
    full = (last + len(rows) + 1) // SIZE
    for number in range(last // SIZE, full):
        _pack(db, number, rows)
    loose = [(cid, *row) for cid, row in rows.items() if cid >= full * SIZE]
    db.executemany("INSERT INTO loose VALUES (?, ?, ?)", loose)
    return list(rows)


def _pack(db: sqlite3.Connection, number: int, new: Mapping[int, tuple[bytes, bytes]]) -> None:
    """Makes a parcel of what is loose and of the new ones, all of whose messages are there."""
    first, behind = number * SIZE, number * SIZE + SIZE
    query = "SELECT * FROM loose WHERE cid BETWEEN ? AND ?"
    rows = {cid: row for cid, *row in db.execute(query, (first, behind - 1))}
    rows |= {cid: [*new[cid]] for cid in range(first, behind) if cid in new}
    if rows:
        for section in range(len(SECTIONS)):
            data = parcel.packed(rows[cid][section] if cid in rows else b"" for cid in range(first, behind))
            db.execute("INSERT INTO parcel VALUES (?, ?, ?)", (number << 1 | section, len(rows), data))
        db.execute("DELETE FROM loose WHERE cid BETWEEN ? AND ?", (first, behind - 1))


def gather(
    db: sqlite3.Connection, cids: Sequence[int], dates: Sequence[int], names: Sequence[str]
) -> dict[str, Sequence[Any]]:
    """These columns (see TERMS) of messages with these content ids, in any order, and INTERNALDATEs. Raises
    sqlite3.DatabaseError where an id is unknown."""
    kept = ["sent_at" if name == "sent" else name for name in names]
    found: dict[str, Sequence[Any]]
    if all(map(lt, cids, islice(cids, 1, None))):
        found = _ascending(db, cids, kept)
    else:  # moved to and fro, or several copies of one
        places = {cid: place for place, cid in enumerate(sorted(set(cids)))}
        some, order = _ascending(db, list(places), kept), [places[cid] for cid in cids]
        found = {name: [values[place] for place in order] for name, values in some.items()}
    if "sent" in names:
        found["sent"] = [date if at is None else at for at, date in zip(found["sent_at"], dates, strict=True)]
    return found


def _ascending(db: sqlite3.Connection, cids: Sequence[int], names: Iterable[str]) -> dict[str, Sequence[Any]]:
    found: dict[str, list[Any]] = {name: [] for name in names}
    for number, places in _by_parcel(cids):
        opened = Parcel(partial(_section, db, number))
        run = places[-1] - places[0] == len(places) - 1
        for name, values in found.items():
            column = opened.column(name)
            values += column[places[0] : places[-1] + 1] if run else map(column.__getitem__, places)
    return {**found}


def _by_parcel(cids: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    """The parcels of ascending content ids, and the places of the messages in them."""
    first = 0
    while first < len(cids):
        number = cids[first] // SIZE
        behind = bisect_left(cids, (number + 1) * SIZE, first)
        yield number, [cid - number * SIZE for cid in cids[first:behind]]
        first = behind


def _section(db: sqlite3.Connection, number: int, section: int) -> list[bytes]:
    row = db.execute("SELECT data FROM parcel WHERE id = ?", (number << 1 | section,)).fetchone()
    if row is not None:
        return parcel.unpacked(row[0])
    query = f"SELECT cid & {SIZE - 1}, {('ready', 'terms')[section]} FROM loose WHERE cid BETWEEN ? AND ?"
    rows = dict(db.execute(query, (number * SIZE, number * SIZE + SIZE - 1)).fetchall())
    if not rows:
        raise sqlite3.DatabaseError(f"the descriptions {number} are missing")
    return parcel.columns(rows.get(place, b"") for place in range(SIZE))


def epoch(db: sqlite3.Connection) -> int:
    """The content id of a message stays the same as long as this does."""
    row = db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    return int(row[0]) if row else 0


def forget(db: sqlite3.Connection) -> None:
    """Throws all descriptions away; the messages will be read again."""
    put = "INSERT OR REPLACE INTO meta VALUES ('epoch', ?)"
    db.execute(put, (epoch(db) + 1,))
    for statement in ("UPDATE message SET cid = 0", "DELETE FROM parcel", "DELETE FROM loose", "DELETE FROM arrival"):
        db.execute(statement)


def attach(db: sqlite3.Connection, messages: Sequence[tuple[int, int]], described: Iterable[Described]) -> None:
    """Adds descriptions of messages, given by ``(id, exact size)``, that had none. Call within a write transaction."""
    cids = insert(db, described)
    grown: dict[int, int] = {}
    for id, size in messages:
        for (before,) in db.execute("SELECT abs(size) FROM message WHERE id=?", (id,)):
            grown[id >> 32] = grown.get(id >> 32, 0) + size - before
    rows = [(cid, size, id) for cid, (id, size) in zip(cids, messages, strict=True)]
    db.executemany("UPDATE message SET cid=?, size=? WHERE id=? AND cid=0", rows)
    db.executemany("UPDATE mailbox SET size = size + ? WHERE id=?", [(n, id) for id, n in grown.items() if n])


def read(raw: bytes) -> Described:
    """The description and the EMAILID of a message in its CRLF form."""
    return describe(raw), email_id(raw)


def wire_size(chunks: Sequence[bytes | memoryview]) -> int:
    """The octets of a message with CRLF line ends."""
    size, after_cr = 0, False
    for chunk in chunks:
        # A message mapped from its spool is counted in pieces: a copy of all of it would cost what the spool saves.
        for at in range(0, len(chunk), _PIECE):
            piece = bytes(chunk[at : at + _PIECE])
            size += len(piece) + piece.count(b"\n") - piece.count(b"\r\n")
            size -= after_cr and piece[:1] == b"\n"
            after_cr = piece[-1:] == b"\r"
    return size


def with_crlf(data: bytes) -> bytes:
    """A message's octets with CRLF line ends, whatever its file has."""
    if data.count(b"\n") == data.count(b"\r\n"):
        return data
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def sweep(db: sqlite3.Connection, *, before: float = 0) -> int:
    """Removes what no message refers to any more, and what was announced ``before`` (Unix time) and never came;
    returns how many descriptions that were. In a parcel some may stay. Call within a write transaction."""
    db.execute("DELETE FROM arrival WHERE at < ?", (int(before),))
    used = "SELECT cid FROM message WHERE cid UNION SELECT cid FROM arrival"
    count = db.execute(f"DELETE FROM loose WHERE cid NOT IN ({used})").rowcount
    there = dict(db.execute(f"SELECT cid / {SIZE}, count(*) FROM ({used}) GROUP BY 1").fetchall())
    for id, kept in db.execute("SELECT id, kept FROM parcel").fetchall():
        left, first = there.get(id >> 1, 0), (id >> 1) * SIZE
        if left <= kept * _WORN:
            query = f"SELECT cid - ? FROM ({used}) WHERE cid BETWEEN ? AND ?"
            _wear(db, id, {place for (place,) in db.execute(query, (first, first, first + SIZE - 1))})
            count += (id & 1) * (kept - left)
    return count


def _wear(db: sqlite3.Connection, id: int, places: set[int]) -> None:
    """Leaves these messages of a section of a parcel."""
    if not places:
        db.execute("DELETE FROM parcel WHERE id = ?", (id,))
        return
    (data,) = db.execute("SELECT data FROM parcel WHERE id = ?", (id,)).fetchone()
    rows = zip(*(column.split(b"\0") for column in parcel.unpacked(data)), strict=True)
    data = parcel.packed(parcel.joined(row) if place in places else b"" for place, row in enumerate(rows))
    db.execute("UPDATE parcel SET kept = ?, data = ? WHERE id = ?", (len(places), data, id))


def announce(db: sqlite3.Connection, base: str, described: Described, at: float) -> None:
    """Keeps the description of a message that lies in ``new`` until it gets its UID (see ``claim``)."""
    (cid,) = insert(db, [described])
    db.execute("INSERT OR REPLACE INTO arrival VALUES (?, ?, ?)", (base, cid, int(at)))


def claim(db: sqlite3.Connection, bases: Iterable[str]) -> dict[str, int]:
    """What was announced of these messages: content ids by base name; they are forgotten as arrivals."""
    if db.execute("SELECT 1 FROM arrival LIMIT 1").fetchone() is None:
        return {}
    names = json.dumps([base for base in bases if base.isascii()])  # ours are
    query = "SELECT a.base, a.cid FROM json_each(?) j JOIN arrival a ON a.base = j.value"
    found = dict(db.execute(query, (names,)).fetchall())
    db.executemany("DELETE FROM arrival WHERE base=?", [(base,) for base in found])
    return found


OWN = {name: f"m.{name}" for name in ("cid", "flags", "modseq", "date", "saved", "uidl", "name")}
OWN |= {
    "uid": "m.id & 4294967295",
    "size": "abs(m.size)",
    "about": "m.size",
    "internaldate": "m.date",
    "savedate": "m.saved",
}
OWN["guid"] = "iif(m.guid <> '', m.guid, substr(m.name, 1, instr(m.name, ':2,') - 1))"
OWN["recent_flags"] = "iif(m.flags = '', '\\Recent', m.flags || ' \\Recent')"
"""Columns of ``message`` itself."""


def own(columns: Iterable[str]) -> str:
    """What to select for these columns of OWN from ``message m``."""
    return ", ".join(map(OWN.__getitem__, columns))
