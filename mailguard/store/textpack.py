"""The text of all messages, ready to be searched: a packed file per account beside its index, as easily thrown away."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import zstandard

from mailguard.protocol.imap.searchtext import SearchText
from mailguard.store.wordblock import Text, WordBlock

SCHEMA = """
CREATE TABLE block (
  id INTEGER PRIMARY KEY, at INTEGER NOT NULL, words INTEGER NOT NULL, codes INTEGER NOT NULL, octets INTEGER NOT NULL,
  cids BLOB NOT NULL
);
CREATE TABLE cut (cid INTEGER PRIMARY KEY);
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
# A block (see WordBlock) is some messages, in the order of their texts in it, with the octets of these; it lies in the
# file at ``at``, so many octets of packed words before those of its codes. In cut are the messages of which not all is
# kept. The file is named by a number: a new file with a new number replaces one that is mostly blocks that were written
# anew, or text of removed messages.

MAX_PART = 1 << 20
"""Octets of a header, and of a body's text, that are kept."""

_BLOCK = 1 << 16  # octets of text; the last block is written anew until it has so many
_LEVEL = 3
_WASTE = 0.3  # part of the file that may be of no use any more,
_LEAST_WASTE = 1 << 18  # and octets
_PUT_BLOCK = "INSERT OR REPLACE INTO block VALUES (?,?,?,?,?,?)"


class Block(NamedTuple):
    """The row of a block: ``cids`` are the content ids of its messages."""

    id: int
    at: int
    words: int
    codes: int
    octets: int
    cids: Sequence[int]

    @property
    def end(self) -> int:
        """The place in the file behind it."""
        return self.at + self.words + self.codes


class TextPack:
    """The file of one account; ``index`` is the path of its index. Use within the index's transactions."""

    def __init__(self, index: Path) -> None:
        self._index = index

    def _path(self, number: int) -> Path:
        return self._index.with_name(f"{self._index.name}.text-{number}")

    def add(self, db: sqlite3.Connection, texts: Sequence[tuple[int, SearchText]]) -> None:
        """Adds texts by content id, durable before the index says where they are. Raises OSError."""
        number, last, begun, end = self._end(db)
        cut = []
        with _writing(self._path(number)) as descriptor:
            writer = _Writer(descriptor, last, end)
            for cid, text in begun:
                writer.put(cid, text)
            for cid, whole in texts:
                text = whole.header.encode("utf-8", "replace"), whole.body.encode("utf-8", "replace")
                kept = _kept(text)
                if kept != text:
                    cut.append((cid,))
                writer.put(cid, kept)
            writer.flush()
        db.executemany(_PUT_BLOCK, writer.rows)
        db.executemany("INSERT OR REPLACE INTO cut VALUES (?)", cut)

    def _end(self, db: sqlite3.Connection) -> tuple[int, int, list[tuple[int, Text]], int]:
        """The number of the file; that of the next block; what is in it already; and where in the file it will lie."""
        number = _meta(db, "text")
        last = next(_blocks(db, "ORDER BY id DESC LIMIT 1"), None)
        if last is not None:
            (end,) = db.execute("SELECT max(at + words + codes) FROM block").fetchone()
            with contextlib.suppress(FileNotFoundError, EOFError), _reading(self._path(number)) as descriptor:
                if os.fstat(descriptor).st_size >= end:
                    if last.octets >= _BLOCK:
                        return number, last.id + 1, [], end
                    begun = _read(descriptor, last, zstandard.ZstdDecompressor())
                    return number, last.id, list(_texts(last, begun)), end
        # None yet, or the file is gone or cut off: begin anew under another number.
        self.forget(db)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('text', ?)", (number + 1,))
        self._remove_others(number + 1)
        return number + 1, 1, [], 0

    def _remove_others(self, number: int) -> None:
        for path in self._index.parent.glob(f"{_escaped(self._index.name)}.text-*"):
            if path != self._path(number):
                path.unlink(missing_ok=True)

    def blocks(self, db: sqlite3.Connection) -> list[Block]:
        """All that there are."""
        return list(_blocks(db))

    def cut(self, db: sqlite3.Connection) -> set[int]:
        """The content ids of the messages of which not all is kept."""
        return {cid for (cid,) in db.execute("SELECT cid FROM cut")}

    def read(self, db: sqlite3.Connection, blocks: Iterable[Block]) -> Iterator[tuple[Block, WordBlock]]:
        """What is in blocks. Raises FileNotFoundError, EOFError if the file is not what the index believes."""
        unpacker = zstandard.ZstdDecompressor()
        with _reading(self._path(_meta(db, "text"))) as descriptor:
            for block in blocks:
                yield block, _read(descriptor, block, unpacker)

    def forget(self, db: sqlite3.Connection) -> None:
        """Throws all text away; it will be read from the messages again."""
        db.execute("DELETE FROM block")
        db.execute("DELETE FROM cut")

    def compact(self, db: sqlite3.Connection) -> None:
        """Writes a new file without the text of removed messages, and blocks that were written anew, once these are a
        good part of it."""
        blocks = self.blocks(db)
        if not blocks:
            return
        there = {cid for (cid,) in db.execute("SELECT cid FROM message")}
        end = max(block.end for block in blocks)
        used = sum((block.words + block.codes) * _part(block, there) for block in blocks)
        if end - used <= max(_LEAST_WASTE, _WASTE * end):
            return
        number = _meta(db, "text") + 1
        with _writing(self._path(number)) as descriptor:
            writer = _Writer(descriptor, 1, 0)
            for block, words in self.read(db, blocks):
                for cid, text in _texts(block, words):
                    if cid in there:
                        writer.put(cid, text)
            writer.flush()
        db.execute("DELETE FROM block")
        db.executemany(_PUT_BLOCK, writer.rows)
        db.execute("DELETE FROM cut WHERE cid NOT IN (SELECT cid FROM message)")
        db.execute("INSERT OR REPLACE INTO meta VALUES ('text', ?)", (number,))
        self._remove_others(number)


class _Writer:
    """Writes blocks into a file, from ``at`` on; the first one gets the number ``first``."""

    def __init__(self, descriptor: int, first: int, at: int) -> None:
        self.rows: list[tuple[object, ...]] = []
        self._descriptor = descriptor
        self._next = first
        self._at = at
        self._cids: list[int] = []
        self._texts: list[Text] = []
        self._octets = 0
        self._packer = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)

    def put(self, cid: int, text: Text) -> None:
        """Adds a message's text."""
        self._cids.append(cid)
        self._texts.append(text)
        self._octets += len(text[0]) + len(text[1])
        if self._octets >= _BLOCK:
            self.flush()

    def flush(self) -> None:
        """Writes the last block, however short."""
        if not self._cids:
            return
        block = WordBlock.of(self._texts)
        words = self._packer.compress(block.words)
        cids = _from_ids(self._cids)
        self.rows.append((self._next, self._at, len(words), len(block.codes), self._octets, cids))
        view = memoryview(words + block.codes)
        self._next, self._cids, self._texts, self._octets = self._next + 1, [], [], 0
        while view:
            written = os.pwrite(self._descriptor, view, self._at)
            view, self._at = view[written:], self._at + written


def _kept(text: Text) -> Text:
    """What is kept of a text: of the header whole lines."""
    header, body = text
    if len(header) > MAX_PART:
        header = header[: header.rfind(b"\n", 0, MAX_PART) + 1]
    return header, body[:MAX_PART]


def _blocks(db: sqlite3.Connection, which: str = "ORDER BY id") -> Iterator[Block]:
    for id, at, words, codes, octets, cids in db.execute(f"SELECT * FROM block {which}"):
        yield Block(id, at, words, codes, octets, _to_ids(cids))


def _from_ids(cids: Sequence[int]) -> bytes:
    """Content ids as they are kept: one after the other, or the first and minus the number of them."""
    run = list(cids) == list(range(cids[0], cids[0] + len(cids)))
    return array("i", (cids[0], -len(cids)) if run else cids).tobytes()


def _to_ids(data: bytes) -> Sequence[int]:
    found = array("i", data)
    return range(found[0], found[0] - found[1]) if found[1:] and found[1] < 0 else found


def _texts(block: Block, words: WordBlock) -> Iterator[tuple[int, Text]]:
    """The texts of a block by content id. Raises EOFError if they are torn."""
    for number, cid in enumerate(block.cids):
        try:
            yield cid, words.text(number)
        except (LookupError, ValueError) as error:
            raise EOFError(f"a block is torn: {error}") from None


def _part(block: Block, there: set[int]) -> float:
    return len(there.intersection(block.cids)) / len(block.cids)


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


def _read(descriptor: int, block: Block, unpacker: zstandard.ZstdDecompressor) -> WordBlock:
    """What is in a block. Raises EOFError if the file does not hold it."""
    words = os.pread(descriptor, block.words, block.at)
    codes = os.pread(descriptor, block.codes, block.at + block.words)
    try:
        found = WordBlock(unpacker.decompress(words), codes)
    except zstandard.ZstdError as error:
        raise EOFError(f"a block is cut off: {error}") from None
    if len(found) != len(block.cids):
        raise EOFError("a block is cut off")
    return found


def _meta(db: sqlite3.Connection, key: str) -> int:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return int(row[0]) if row else 0


def _escaped(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
