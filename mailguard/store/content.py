"""What the index keeps of a message's content: answers ready to be sent, and terms to search, sort and thread by."""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from mailguard.protocol.imap.describe import Description, describe

Described = tuple[Description, str]
"""A message's description and its EMAILID."""

SCHEMA = """
CREATE TABLE content (
  cid INTEGER PRIMARY KEY, envelope BLOB NOT NULL, bodystructure BLOB NOT NULL, preview TEXT NOT NULL,
  email_id TEXT NOT NULL
);
CREATE TABLE term (
  cid INTEGER PRIMARY KEY, subject TEXT, from_ TEXT, to_ TEXT, cc TEXT, bcc TEXT, base_subject TEXT NOT NULL,
  is_reply INTEGER NOT NULL, from_key TEXT NOT NULL, to_key TEXT NOT NULL, cc_key TEXT NOT NULL,
  display_from TEXT NOT NULL, display_to TEXT NOT NULL, sent_at INTEGER, sent_day INTEGER, message_id TEXT NOT NULL,
  refs TEXT NOT NULL
);
CREATE TABLE arrival (base TEXT PRIMARY KEY, cid INTEGER NOT NULL, at INTEGER NOT NULL);
"""


_PIECE = 1 << 20  # octets

READY = ("envelope", "bodystructure", "preview", "email_id")
"""Columns of ``content``: ENVELOPE and BODYSTRUCTURE as bytes to send, PREVIEW and EMAILID as text."""

TERMS = {
    **{name: f"t.{name}" for name in ("subject", "cc", "bcc", "base_subject", "is_reply", "from_key", "to_key",
                                      "cc_key", "display_from", "display_to", "sent_at", "sent_day", "message_id")},
    "from": "t.from_", "to": "t.to_", "references": "t.refs", "sent": "coalesce(t.sent_at, m.date)",
}  # fmt: skip
"""Names of terms (see describe.Description; ``references`` are separated by spaces, ``sent`` is INTERNALDATE where
``sent_at`` is unknown, RFC 5256 §2.2) -> expressions over ``term``."""

_INSERT_CONTENT = f"INSERT OR REPLACE INTO content VALUES ({','.join('?' * 5)})"
_INSERT_TERM = f"INSERT OR REPLACE INTO term VALUES ({','.join('?' * 17)})"


def email_id(raw: bytes) -> str:
    """An EMAILID (RFC 8474 §5.1): the same for the same octets, wherever they lie."""
    return "M" + base64.urlsafe_b64encode(hashlib.blake2b(raw, digest_size=15).digest()).decode()


def insert(db: sqlite3.Connection, described: Iterable[Described]) -> list[int]:
    """Adds descriptions with their EMAILIDs; returns their content ids. Call within a write transaction."""
    (last,) = db.execute("SELECT coalesce(max(cid), 0) FROM content").fetchone()
    contents: list[tuple[Any, ...]] = []
    terms: list[tuple[Any, ...]] = []
    for cid, (d, id) in enumerate(described, last + 1):
        contents.append((cid, d.envelope, d.bodystructure, _text(d.preview), id))
        terms.append((
            cid, _text(d.subject), _text(d.from_), _text(d.to), _text(d.cc), _text(d.bcc), _text(d.base_subject),
            d.is_reply, _text(d.from_key), _text(d.to_key), _text(d.cc_key), _text(d.display_from),
            _text(d.display_to), d.sent_at, d.sent_day, _text(d.message_id), _text(" ".join(d.references)),
        ))  # fmt: skip
    db.executemany(_INSERT_CONTENT, contents)
    db.executemany(_INSERT_TERM, terms)
    return [row[0] for row in contents]


def attach(db: sqlite3.Connection, messages: Sequence[tuple[int, int]], described: Iterable[Described]) -> None:
    """Adds descriptions of messages, given by ``(id, exact size)``, that had none. Call within a write transaction."""
    cids = insert(db, described)
    grown: dict[int, int] = {}
    for id, size in messages:
        for (before,) in db.execute("SELECT abs(size) FROM message WHERE id=?", (id,)):
            grown[id >> 32] = grown.get(id >> 32, 0) + size - before
    rows = [(cid, size, id) for cid, (id, size) in zip(cids, messages, strict=True)]
    db.executemany("UPDATE message SET cid=?, size=? WHERE id=?", rows)
    db.executemany("UPDATE mailbox SET size = size + ? WHERE id=?", [(n, id) for id, n in grown.items() if n])


def _text(text: str | None) -> str | None:
    """Text that SQLite can keep: no lone surrogates, no NUL (where its string functions would stop)."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", " ")


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
    returns how many. Call within a write transaction."""
    db.execute("DELETE FROM arrival WHERE at < ?", (int(before),))
    unused = "cid NOT IN (SELECT cid FROM message UNION SELECT cid FROM arrival)"
    db.execute(f"DELETE FROM term WHERE {unused}")
    return db.execute(f"DELETE FROM content WHERE {unused}").rowcount


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


OWN = {name: f"m.{name}" for name in ("flags", "modseq", "date", "saved", "uidl", "name")}
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


def columns_sql(columns: Iterable[str]) -> tuple[list[str], str]:
    """SQL expressions for columns, and the joins they need."""
    expressions, joins = [], {}
    for column in columns:
        if column in OWN:
            expressions.append(OWN[column])
        elif column in READY:
            joins["content"] = "JOIN content c ON c.cid = m.cid"
            expressions.append(f"c.{column}")
        else:
            joins["term"] = "JOIN term t ON t.cid = m.cid"
            expressions.append(TERMS[column])
    return expressions, " ".join(joins.values())
