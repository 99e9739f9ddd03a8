"""Looking for words in the text of messages: in the kept text where it may be kept, else in the messages themselves."""

from __future__ import annotations

import sqlite3
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from mailguard.protocol.imap.searchtext import SearchText, search_text
from mailguard.store.content import with_crlf
from mailguard.store.inventory import plain
from mailguard.store.snapshot import ExpungedError
from mailguard.store.standing import State, chosen
from mailguard.store.textpack import Span
from mailguard.store.view import MailboxView

_BULK = 200  # messages read at a time, between which others have their turn


class TextTest:
    """What to look for: ``needle`` must be in the header if ``header``, or in the body if ``body``; then ``sure`` is
    asked, if given."""

    def __init__(
        self, needle: str, *, header: bool, body: bool, sure: Callable[[SearchText], bool] | None = None
    ) -> None:
        self.needle = needle.encode("utf-8", "replace")
        self.header = header
        self.body = body
        self.sure = sure
        self._text = needle

    def holds(self, text: SearchText) -> bool:
        """Whether a text is what is looked for."""
        there = (self.header and self._text in text.header) or (self.body and self._text in text.body)
        return there and (self.sure is None or self.sure(text))


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
        """Reads the messages whose text is not kept yet, ``limit`` of them if given; returns how many. Raises
        OSError."""
        count = after = 0
        while not limit or count < limit:
            with self._described(uids, "cid = 0") as (db, state):
                where, values = chosen(db, state, uids)
                query = (
                    "SELECT m.id, m.cid, m.name FROM message m LEFT JOIN text x ON x.cid = m.cid"
                    f" WHERE {where} AND m.id > ? AND x.cid IS NULL ORDER BY m.id LIMIT {min(limit or _BULK, _BULK)}"
                )
                rows = db.execute(query, (*values, after)).fetchall()
            if not rows:
                break
            texts = []
            for _, cid, name in rows:
                try:
                    with open(f"{self._at}/cur/{plain(name)}", "rb", buffering=0) as file:
                        texts.append((cid, search_text(with_crlf(file.read()))))
                except FileNotFoundError:
                    continue  # renamed or removed by another program: its turn comes another time
            with self._index.write() as db:
                self._index.texts.add(db, texts)
            count, after = count + len(rows), rows[-1][0]
        return count

    def _scan(self, test: TextTest, uids: Sequence[int] | None) -> set[int]:
        found: set[int] = set()
        with self._read(fresh=False) as (db, state):
            spans, lost = self._spans(db, state, uids)
            for first, behind, text, at in self._index.texts.read(db, spans):
                found.update(_found(test, spans[first:behind], text, at))
        if test.body:
            lost += [span.uid for span in spans if not span.whole and span.uid not in found]
        return found | self._read_through(test, lost)

    def _spans(self, db: sqlite3.Connection, state: State, uids: Sequence[int] | None) -> tuple[list[Span], list[int]]:
        """Where the texts lie, in the order of the file, and the UIDs of messages without a kept text."""
        where, values = chosen(db, state, uids)
        query = (
            "SELECT x.start, x.split, x.stop, x.whole, m.id - ? FROM message m LEFT JOIN text x ON x.cid = m.cid"
            f" WHERE {where}"
        )
        rows = db.execute(query, (state.first, *values)).fetchall()
        lost = [row[-1] for row in rows if row[0] is None]
        if lost:
            rows = [row for row in rows if row[0] is not None]
        rows.sort()
        return list(map(Span._make, rows)), lost

    def _read_through(self, test: TextTest, uids: Sequence[int]) -> set[int]:
        found = set()
        for uid in uids:
            try:
                if test.holds(search_text(self.raw(uid))):
                    found.add(uid)
            except ExpungedError:
                continue
        return found


def _found(test: TextTest, spans: list[Span], text: bytes, at: int) -> Iterator[int]:
    """The UIDs of the messages of one block for which a test holds: looked for in all of them at once, for most hold
    nothing."""
    needle, header, body = test.needle, test.header, test.body
    if not needle:
        yield from (span.uid for span in spans)
        return
    starts = [span.start for span in spans]
    place = text.find(needle, starts[0] - at)
    while place >= 0:
        behind = bisect_right(starts, at + place)
        span = spans[behind - 1]
        low, high = span.start if header else span.split, span.stop if body else span.split
        if at + place < low:
            place = text.find(needle, low - at)
            continue
        if at + place + len(needle) <= high and (test.sure is None or test.sure(_header(span, text, at))):
            for other in reversed(spans[:behind]):
                if other[:3] != span[:3]:
                    break
                yield other.uid  # of a copy: copies of a message have one text
        if behind == len(spans):
            return
        place = text.find(needle, starts[behind] - at)


def _header(span: Span, buffer: bytes, at: int) -> SearchText:
    return SearchText(buffer[span.start - at : span.split - at].decode("utf-8", "replace"), "")
