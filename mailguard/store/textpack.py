"""The text of all messages, ready to be searched: one flat file per account beside its index, as easily thrown away."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mailguard.protocol.imap.searchtext import SearchText

SCHEMA = """
CREATE TABLE text (
  cid INTEGER PRIMARY KEY, start INTEGER NOT NULL, split INTEGER NOT NULL, stop INTEGER NOT NULL, whole INTEGER NOT NULL
);
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
# A record is the header's text from start to split and the body's from split to stop, in UTF-8; whole is 0 where the
# body was too long to keep. The file is named by a number: a new file with a new number replaces one that is mostly
# text of removed messages.

MAX_BODY = 1 << 20
"""Octets of a body's text that are kept."""

_READ = 1 << 19  # octets read at a time
_GAP = 1 << 14  # octets that nobody asked for, read along rather than left out
_WASTE = 0.3  # part of the file that may be text of removed messages


class Span(NamedTuple):
    """Where a message's text lies."""

    start: int
    split: int
    stop: int
    whole: bool
    uid: int


class TextPack:
    """The file of one account; ``index`` is the path of its index. Use within the index's transactions."""

    def __init__(self, index: Path) -> None:
        self._index = index

    def _path(self, number: int) -> Path:
        return self._index.with_name(f"{self._index.name}.text-{number}")

    def add(self, db: sqlite3.Connection, texts: Sequence[tuple[int, SearchText]]) -> None:
        """Adds texts by content id, durable before the index says where they are. Raises OSError."""
        at = self._end(db)
        number = _meta(db, "text")
        rows, data = [], []
        for cid, text in texts:
            header, body = text.header.encode("utf-8", "replace"), text.body.encode("utf-8", "replace")
            whole = len(body) <= MAX_BODY
            body = body if whole else body[:MAX_BODY]
            rows.append((cid, at, at + len(header), at + len(header) + len(body), whole))
            data += [header, body]
            at += len(header) + len(body)
        self._write(number, rows[0][1] if rows else 0, b"".join(data))
        db.executemany("INSERT OR REPLACE INTO text VALUES (?,?,?,?,?)", rows)

    def _end(self, db: sqlite3.Connection) -> int:
        (end,) = db.execute("SELECT coalesce(max(stop), 0) FROM text").fetchone()
        number = _meta(db, "text")
        with contextlib.suppress(FileNotFoundError):
            if end and self._path(number).stat().st_size >= end:
                return int(end)
        # None yet, or the file is gone or cut off: begin anew under another number.
        db.execute("DELETE FROM text")
        db.execute("INSERT OR REPLACE INTO meta VALUES ('text', ?)", (number + 1,))
        self._remove_others(number + 1)
        return 0

    def _remove_others(self, number: int) -> None:
        for path in self._index.parent.glob(f"{_escaped(self._index.name)}.text-*"):
            if path != self._path(number):
                path.unlink(missing_ok=True)

    def _write(self, number: int, at: int, data: bytes) -> None:
        descriptor = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            view = memoryview(data)
            while view:
                written = os.pwrite(descriptor, view, at)
                view, at = view[written:], at + written
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def read(self, db: sqlite3.Connection, spans: Sequence[Span]) -> Iterator[tuple[int, int, bytearray, int]]:
        """The text of spans (in the order of the file) in pieces: the number of a piece's first span, that of the
        first one behind it, a buffer that begins with its text, until the next piece is asked for, and its place in
        the file. Raises FileNotFoundError, EOFError if the file is not what the index believes."""
        path = self._path(_meta(db, "text"))
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        buffer = bytearray(_READ)  # for all of them: new memory costs more than what is read into it
        try:
            for first, behind in _pieces(spans):
                at = spans[first].start
                length = spans[behind - 1].stop - at
                if length > len(buffer):
                    buffer = bytearray(length)
                if os.preadv(descriptor, [memoryview(buffer)[:length]], at) < length:
                    raise EOFError(f"{path} is cut off")
                yield first, behind, buffer, at
        finally:
            os.close(descriptor)

    def forget(self, db: sqlite3.Connection) -> None:
        """Throws all text away; it will be read from the messages again."""
        db.execute("DELETE FROM text")

    def compact(self, db: sqlite3.Connection) -> None:
        """Writes a new file without the text of removed messages, once these are a good part of it."""
        db.execute("DELETE FROM text WHERE cid NOT IN (SELECT cid FROM content)")
        query = "SELECT coalesce(sum(stop - start), 0), coalesce(max(stop), 0) FROM text"
        used, end = db.execute(query).fetchone()
        if end - used <= max(1 << 20, _WASTE * end):
            return
        number = _meta(db, "text")
        query = "SELECT start, split, stop, whole, cid FROM text ORDER BY start"
        rows = [Span(*row) for row in db.execute(query)]
        moved, place = [], 0
        for first, behind, text, at in self.read(db, rows):
            for start, split, stop, whole, cid in rows[first:behind]:
                self._write(number + 1, place, bytes(text[start - at : stop - at]))
                moved.append((cid, place, place + split - start, place + stop - start, whole))
                place += stop - start
        db.execute("DELETE FROM text")
        db.executemany("INSERT INTO text VALUES (?,?,?,?,?)", moved)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('text', ?)", (number + 1,))
        self._remove_others(number + 1)


def _pieces(spans: Sequence[Span]) -> Iterator[tuple[int, int]]:
    """Runs of spans that are read at once: of at most _READ octets, or one span, and without much between them."""
    first = 0
    for number in range(1, len(spans) + 1):
        if (
            number == len(spans)
            or spans[number].stop - spans[first].start > _READ
            or spans[number].start - spans[number - 1].stop > _GAP
        ):
            yield first, number
            first = number


def _meta(db: sqlite3.Connection, key: str) -> int:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return int(row[0]) if row else 0


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
