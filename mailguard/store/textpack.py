"""The text of all messages, ready to be searched: a packed file per account beside its index, as easily thrown away."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import zstandard

from mailguard.protocol.imap.searchtext import SearchText

SCHEMA = """
CREATE TABLE text (
  cid INTEGER PRIMARY KEY, start INTEGER NOT NULL, split INTEGER NOT NULL, stop INTEGER NOT NULL, whole INTEGER NOT NULL
);
CREATE TABLE block (start INTEGER PRIMARY KEY, stop INTEGER NOT NULL, at INTEGER NOT NULL, length INTEGER NOT NULL);
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
# All texts make one long text, in UTF-8: a message's header from start to split and its body from split to stop;
# whole is 0 where the body was too long to keep. A block is what is packed together of the long text, and where in the
# file it lies. The file is named by a number: a new file with a new number replaces one that is mostly blocks that
# were written anew, or text of removed messages.

MAX_BODY = 1 << 20
"""Octets of a body's text that are kept."""

_BLOCK = 1 << 15  # octets of text, which malloc keeps at hand; the last block is written anew until it has so many
_LEVEL = 3
_WASTE = 0.3  # part of the file that may be of no use any more,
_LEAST_WASTE = 1 << 18  # and octets
_PUT_BLOCK = "INSERT OR REPLACE INTO block VALUES (?,?,?,?)"
_PUT_TEXT = "INSERT OR REPLACE INTO text VALUES (?,?,?,?,?)"


class Span(NamedTuple):
    """Where a message's text lies."""

    start: int
    split: int
    stop: int
    whole: bool
    uid: int


class _Block(NamedTuple):
    start: int
    stop: int
    at: int
    length: int


class TextPack:
    """The file of one account; ``index`` is the path of its index. Use within the index's transactions."""

    def __init__(self, index: Path) -> None:
        self._index = index

    def _path(self, number: int) -> Path:
        return self._index.with_name(f"{self._index.name}.text-{number}")

    def add(self, db: sqlite3.Connection, texts: Sequence[tuple[int, SearchText]]) -> None:
        """Adds texts by content id, durable before the index says where they are. Raises OSError."""
        number, start, begun, end = self._end(db)
        rows = []
        with _writing(self._path(number)) as descriptor:
            writer = _Writer(descriptor, start, end)
            writer.add(begun)
            for cid, text in texts:
                header, body = text.header.encode("utf-8", "replace"), text.body.encode("utf-8", "replace")
                rows.append((cid, *writer.put(header, body[:MAX_BODY]), len(body) <= MAX_BODY))
            writer.flush()
        db.executemany(_PUT_BLOCK, writer.blocks)
        db.executemany(_PUT_TEXT, rows)

    def _end(self, db: sqlite3.Connection) -> tuple[int, int, bytes, int]:
        """The number of the file; where the next block begins in the long text; what is of that block already; and
        where in the file it will lie."""
        number = _meta(db, "text")
        last = db.execute("SELECT * FROM block ORDER BY start DESC LIMIT 1").fetchone()
        if last is not None:
            block, (end,) = _Block(*last), db.execute("SELECT max(at + length) FROM block").fetchone()
            with contextlib.suppress(FileNotFoundError, EOFError), _reading(self._path(number)) as descriptor:
                if os.fstat(descriptor).st_size >= end:
                    if block.stop - block.start >= _BLOCK:
                        return number, block.stop, b"", end
                    return number, block.start, _unpacked(descriptor, block, zstandard.ZstdDecompressor()), end
        # None yet, or the file is gone or cut off: begin anew under another number.
        self.forget(db)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('text', ?)", (number + 1,))
        self._remove_others(number + 1)
        return number + 1, 0, b"", 0

    def _remove_others(self, number: int) -> None:
        for path in self._index.parent.glob(f"{_escaped(self._index.name)}.text-*"):
            if path != self._path(number):
                path.unlink(missing_ok=True)

    def read(self, db: sqlite3.Connection, spans: Sequence[Span]) -> Iterator[tuple[int, int, bytes, int]]:
        """The text of spans (in the order of the long text) block by block: the number of a block's first span, that
        of the first one behind it, the block's text, and its place in the long text. Raises FileNotFoundError,
        EOFError if the file is not what the index believes."""
        if not spans:
            return
        query = "SELECT * FROM block WHERE stop > ? AND start < ? ORDER BY start"
        blocks = [_Block(*row) for row in db.execute(query, (spans[0].start, spans[-1].stop + 1))]
        first, unpacker = 0, zstandard.ZstdDecompressor()
        with _reading(self._path(_meta(db, "text"))) as descriptor:
            for block in blocks:
                behind = bisect_left(spans, (block.stop,), first)
                if behind > first:
                    yield first, behind, _unpacked(descriptor, block, unpacker), block.start
                    first = behind
        if first < len(spans):
            raise EOFError("there are texts that no block holds")

    def forget(self, db: sqlite3.Connection) -> None:
        """Throws all text away; it will be read from the messages again."""
        db.execute("DELETE FROM text")
        db.execute("DELETE FROM block")

    def compact(self, db: sqlite3.Connection) -> None:
        """Writes a new file without the text of removed messages, and blocks that were written anew, once these are a
        good part of it."""
        db.execute("DELETE FROM text WHERE cid NOT IN (SELECT cid FROM message)")
        (used,) = db.execute("SELECT total(stop - start) FROM text").fetchone()
        query = "SELECT total(stop - start), total(length), max(at + length) FROM block"
        held, packed, end = db.execute(query).fetchone()
        if not end or end - packed * used / held <= max(_LEAST_WASTE, _WASTE * end):
            return
        number = _meta(db, "text") + 1
        rows = [Span(*row) for row in db.execute("SELECT start, split, stop, whole, cid FROM text ORDER BY start")]
        moved = []
        with _writing(self._path(number)) as descriptor:
            writer = _Writer(descriptor, 0, 0)
            for first, behind, text, at in self.read(db, rows):
                for start, split, stop, whole, cid in rows[first:behind]:
                    moved.append((cid, *writer.put(text[start - at : split - at], text[split - at : stop - at]), whole))
            writer.flush()
        self.forget(db)
        db.executemany(_PUT_BLOCK, writer.blocks)
        db.executemany(_PUT_TEXT, moved)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('text', ?)", (number,))
        self._remove_others(number)


class _Writer:
    """Writes blocks into a file, from ``at`` on; the first one begins at ``start`` of the long text."""

    def __init__(self, descriptor: int, start: int, at: int) -> None:
        self.blocks: list[_Block] = []
        self._descriptor = descriptor
        self._start = self._stop = start
        self._at = at
        self._parts: list[bytes] = []
        self._packer = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)

    def put(self, header: bytes, body: bytes) -> tuple[int, int, int]:
        """Adds a message's text; returns its start, split and stop. There is always a line end behind it: no text is
        empty, and none goes on in the next one."""
        start = self._stop
        self.add(header + body + b"\n")
        return start, start + len(header), start + len(header) + len(body)

    def add(self, text: bytes) -> None:
        """Adds what is to lie in one block."""
        self._parts.append(text)
        self._stop += len(text)
        if self._stop - self._start >= _BLOCK:
            self.flush()

    def flush(self) -> None:
        """Writes the last block, however short."""
        if self._stop == self._start:
            return
        data = self._packer.compress(b"".join(self._parts))
        self.blocks.append(_Block(self._start, self._stop, self._at, len(data)))
        self._start, self._parts = self._stop, []
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, self._at)
            view, self._at = view[written:], self._at + written


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _unpacked(descriptor: int, block: _Block, unpacker: zstandard.ZstdDecompressor) -> bytes:
    """The text of a block. Raises EOFError if the file does not hold it."""
    data = os.pread(descriptor, block.length, block.at)
    try:
        return unpacker.decompress(data)
    except zstandard.ZstdError as error:
        raise EOFError(f"a block is cut off: {error}") from None


def _meta(db: sqlite3.Connection, key: str) -> int:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return int(row[0]) if row else 0


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
