"""What the index keeps of a message's content: answers ready to be sent, and terms to search, sort and thread by."""

from __future__ import annotations

import base64
import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from mailguard.protocol.imap.describe import Description, describe

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
"""

READY = ("envelope", "bodystructure", "preview", "email_id")
"""Columns of ``content``: ENVELOPE and BODYSTRUCTURE as bytes to send, PREVIEW and EMAILID as text."""

TERMS = {
    **{name: name for name in ("subject", "cc", "bcc", "base_subject", "is_reply", "from_key", "to_key", "cc_key",
                               "display_from", "display_to", "sent_at", "sent_day", "message_id")},
    "from": "from_", "to": "to_", "references": "refs",
}  # fmt: skip
"""Names of terms (see describe.Description; ``references`` are separated by spaces) -> columns of ``term``."""

_INSERT_CONTENT = f"INSERT OR REPLACE INTO content VALUES ({','.join('?' * 5)})"
_INSERT_TERM = f"INSERT OR REPLACE INTO term VALUES ({','.join('?' * 17)})"


def email_id(raw: bytes) -> str:
    """An EMAILID (RFC 8474 §5.1): the same for the same octets, wherever they lie."""
    return "M" + base64.urlsafe_b64encode(hashlib.blake2b(raw, digest_size=15).digest()).decode()


def insert(db: sqlite3.Connection, described: Iterable[tuple[Description, str]]) -> list[int]:
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


def _text(text: str | None) -> str | None:
    """Text that SQLite can keep: no lone surrogates, no NUL (where its string functions would stop)."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", " ")


def read(raw: bytes) -> tuple[Description, str]:
    """The description and the EMAILID of a message in its CRLF form."""
    return describe(raw), email_id(raw)


def sweep(db: sqlite3.Connection) -> int:
    """Removes what no message refers to any more; returns how many. Call within a write transaction."""
    unused = "cid NOT IN (SELECT cid FROM message)"
    db.execute(f"DELETE FROM term WHERE {unused}")
    return db.execute(f"DELETE FROM content WHERE {unused}").rowcount


def columns_sql(columns: Sequence[str], own: Sequence[str]) -> tuple[list[str], str]:
    """SQL expressions for columns, and the joins they need; ``own`` are columns of ``message`` itself."""
    expressions, joins = [], {}
    for column in columns:
        if column in own:
            expressions.append(f"m.{column}")
        elif column in READY:
            joins["content"] = "JOIN content c ON c.cid = m.cid"
            expressions.append(f"c.{column}")
        else:
            joins["term"] = "JOIN term t ON t.cid = m.cid"
            expressions.append(f"t.{TERMS[column]}")
    return expressions, " ".join(joins.values())
