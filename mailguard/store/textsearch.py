"""Looking for words in the text of messages: in the kept text where it may be kept, else in the messages themselves."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, compress, islice
from operator import not_

from mailguard.protocol.imap.searchtext import SearchText, search_text
from mailguard.store.content import with_crlf
from mailguard.store.inventory import plain
from mailguard.store.snapshot import ExpungedError
from mailguard.store.standing import State, chosen
from mailguard.store.textpack import Block
from mailguard.store.view import MailboxView
from mailguard.store.wordblock import Needle, WordBlock

_BULK = 200  # messages read at a time, between which others have their turn


class TextTest:
    """What to look for: ``needle`` must be in the header if ``header``, or in the body if ``body``; then ``sure`` is
    asked, if given."""

    def __init__(
        self, needle: str, *, header: bool, body: bool, sure: Callable[[SearchText], bool] | None = None
    ) -> None:
        self.needle = Needle(needle.encode("utf-8", "replace"), header=header, body=body)
        self.sure = sure
        self._text = needle

    def holds(self, text: SearchText) -> bool:
        """Whether a text is what is looked for."""
        needle = self.needle
        there = (needle.header and self._text in text.header) or (needle.body and self._text in text.body)
        return there and (self.sure is None or self.sure(text))

    def find(self, block: WordBlock) -> Iterable[int]:
        """The numbers of a block's messages for which the test holds."""
        found = block.find(self.needle) if self._text else range(len(block))
        if self.sure is None:
            return found
        return (n for n in found if self.sure(SearchText(block.text(n)[0].decode("utf-8", "replace"), "")))


class SearchableView(MailboxView):
    """A mailbox whose messages can be searched for text."""

    def texts_matching(self, test: TextTest, uids: Sequence[int] | None) -> set[int]:
        """The UIDs of the messages, among ``uids`` if given, for which a test holds. Exact, whatever is kept."""
        if not self._index.keeps_text:
            return self._read_through(test, self.uids() if uids is None else uids)
        for again in (True, False):
            try:
                self.keep_texts(uids)
                return self._scan(test, uids)
            except (FileNotFoundError, EOFError) as error:
                self.tell("the kept text of messages is cut off or gone, and is read anew", error=str(error))
                if not again:  # else the file was written anew while we looked
                    with self._index.write() as db:
                        self._index.texts.forget(db)
            except OSError as error:  # the disk is full: search without keeping
                self.tell("the text of messages cannot be kept, and is searched in the files", error=str(error))
                break
        return self._read_through(test, self.uids() if uids is None else uids)

    def keep_some(self, limit: int) -> int:
        """Keeps the text of up to so many messages; returns how many. Raises OSError."""
        return self.keep_texts(limit=limit)

    def keep_texts(self, uids: Sequence[int] | None = None, limit: int = 0) -> int:
        """Reads the messages, of ``uids`` if given, whose text is not kept yet, or ``limit`` of all; returns how many.
        Raises OSError."""
        count, tried = 0, set[int]()
        while not limit or count < limit:
            with self._described(uids, "cid = 0") as (db, state):
                # No roster is worth its memory where housekeeping looks at every mailbox.
                some, cids = self._streamed(db, state) if limit else self._columns(db, state, uids, ("uid", "cid"))
                kept = _Marks(cids, self._index.texts.blocks(db))
                lacking = (uid for uid in kept.missing(some) if uid not in tried)
                where, values = chosen(db, state, list(islice(lacking, min(limit or _BULK, _BULK))))
                rows = db.execute(f"SELECT m.id, m.cid, m.name FROM message m WHERE {where}", values).fetchall()
            if not rows:
                break
            texts = []
            for id, cid, name in rows:
                tried.add(id - state.first)
                try:
                    with open(f"{self._at}/cur/{plain(name)}", "rb", buffering=0) as file:
                        texts.append((cid, search_text(with_crlf(file.read()))))
                except FileNotFoundError:
                    continue  # renamed or removed by another program: its turn comes another time
            with self._index.write() as db:
                self._index.texts.add(db, texts)
            count += len(rows)
        return count

    def _streamed(self, db: sqlite3.Connection, state: State) -> tuple[Sequence[int], Sequence[int]]:
        """UIDs and content ids of all messages."""
        query = "SELECT id - ?, cid FROM message WHERE id BETWEEN ? AND ? ORDER BY id"
        numbers = array("q", chain.from_iterable(db.execute(query, (state.first, state.first, state.last))))
        return numbers[::2], numbers[1::2]

    def _scan(self, test: TextTest, uids: Sequence[int] | None) -> set[int]:
        texts = self._index.texts
        with self._read(fresh=False) as (db, state):
            some, cids = self._columns(db, state, uids, ("uid", "cid"))
            blocks = texts.blocks(db)
            marks = _Marks(cids, blocks)
            for block, words in texts.read(db, filter(marks.concern, blocks)):
                try:
                    for number in test.find(words):
                        marks.found[block.cids[number]] = 1
                except (LookupError, ValueError) as error:
                    raise EOFError(f"a block is torn: {error}") from None
            found = set(marks.holding(some))
            cut = texts.cut(db)
        lost = [*marks.missing(some), *(uid for uid, cid in zip(some, cids, strict=True) if cid in cut)]
        return found | self._read_through(test, [uid for uid in lost if uid not in found])

    def _read_through(self, test: TextTest, uids: Sequence[int]) -> set[int]:
        found = set()
        for uid in uids:
            try:
                if test.holds(search_text(self.raw(uid))):
                    found.add(uid)
            except ExpungedError:
                continue
        return found


class _Marks:
    """Which messages, given by their content ids, are kept in blocks, and which of them hold what is looked for.
    Copies of a message have one content id."""

    def __init__(self, cids: Sequence[int], blocks: Sequence[Block]) -> None:
        self._cids = cids
        size = 1 + max((0, *cids, *(max(block.cids) for block in blocks)))
        self._wanted, self._kept, self.found = (bytearray(size) for _ in range(3))
        for cid in cids:
            self._wanted[cid] = 1
        for block in blocks:
            if isinstance(block.cids, range):
                self._kept[block.cids.start : block.cids.stop] = b"\1" * len(block.cids)
            else:
                for cid in block.cids:
                    self._kept[cid] = 1

    def concern(self, block: Block) -> bool:
        """Whether a block holds one of the messages."""
        return any(map(self._wanted.__getitem__, block.cids))

    def missing(self, uids: Sequence[int]) -> Iterator[int]:
        """The UIDs of the messages that are not kept, given those of all."""
        return compress(uids, map(not_, map(self._kept.__getitem__, self._cids)))

    def holding(self, uids: Sequence[int]) -> Iterator[int]:
        """The UIDs of the messages that hold it."""
        return compress(uids, map(self.found.__getitem__, self._cids))
