"""A selected mailbox as one client knows it: message numbers, and what must be told before they change."""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import cast

from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.response import flags_line
from mailguard.protocol.imap.search import Numbers, Recent, Uids
from mailguard.protocol.imap.sequence import SequenceError, SequenceSet, render_set

SYSTEM = ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")
_MANY = 50  # numbers that are worth a table


class View:
    """``uids`` are in message number order (ascending), ``count`` of them; they may be found by ``load`` when they are
    first needed. ``modseq`` up to which the client knows everything but the ``gone`` UIDs, which it could not be told
    of yet. ``recent`` are UIDs that are \\Recent here; ``told`` the MODSEQ that the client knows of some messages
    beyond ``modseq``; ``saved`` the result that ``$`` stands for."""

    __slots__ = (
        "_load",
        "_numbers",
        "_packed",
        "_uids",
        "count",
        "gone",
        "keywords",
        "modseq",
        "recent",
        "saved",
        "told",
    )

    def __init__(
        self,
        uids: list[int] | None,
        modseq: int,
        keywords: Sequence[str] = (),
        *,
        count: int = 0,
        load: Callable[[], list[int]] = list,
    ) -> None:
        self._uids = uids
        self._load = load
        self._packed = b""
        self._numbers: dict[int, int] = {}
        self.count = count if uids is None else len(uids)
        self.modseq = modseq
        self.keywords = list(keywords)
        self.recent: set[int] = set()
        self.saved: list[int] = []
        self.told: dict[int, int] = {}
        self.gone: list[int] = []

    @property
    def uids(self) -> list[int]:
        """What the client calls 1, 2, 3..."""
        if self._uids is None:
            if self._packed:
                pairs = struct.iter_unpack("<II", zlib.decompress(self._packed))
                self._uids = [uid for low, high in pairs for uid in range(low, high + 1)]
                self._packed = b""
            else:
                self._uids = self._load()
        return self._uids

    @property
    def last(self) -> int:
        """The highest UID the client knows, 0 if it knows none."""
        return self.uids[-1] if self.count else 0

    def rest(self) -> None:
        """Packs the UIDs until they are needed again: a session that waits costs little."""
        self._numbers = {}
        if self._uids is not None:
            pairs = b"".join([struct.pack("<II", low, high) for low, high in ranges(self._uids).ranges])
            self._packed, self._uids = zlib.compress(pairs, 1), None

    def _change(self, uids: list[int]) -> None:
        self._uids, self._numbers, self.count = uids, {}, len(uids)

    def number(self, uid: int) -> int:
        """The message number of a UID, 0 if the client does not know it."""
        uids = self.uids
        at = bisect_left(uids, uid)
        return at + 1 if at < len(uids) and uids[at] == uid else 0

    def _table(self) -> dict[int, int]:
        if not self._numbers:
            self._numbers = dict(zip(self.uids, range(1, self.count + 1), strict=True))
        return self._numbers

    def numbers(self, uids: Sequence[int]) -> Sequence[int]:
        """Those of many that it knows."""
        if not uids:
            return ()
        first, last = self.number(uids[0]), self.number(uids[-1])
        if first and last - first == len(uids) - 1 and self.uids[first - 1 : last] == uids:
            return range(first, last + 1)
        if len(uids) < _MANY:
            return [number for uid in uids if (number := self.number(uid))]
        found = list(map(self._table().get, uids))
        return [number for number in found if number] if None in found else cast(list[int], found)

    def known(self, uids: Sequence[int]) -> list[int]:
        """Those the client knows, in the same order."""
        if len(uids) < _MANY:
            return [uid for uid in uids if self.number(uid)]
        first, last = self.number(uids[0]), self.number(uids[-1])
        if first and last - first == len(uids) - 1 and self.uids[first - 1 : last] == uids:
            return list(uids)
        return list(filter(self._table().__contains__, uids))

    def resolve(self, numbers: SequenceSet | None, uid: bool) -> list[int]:
        """The UIDs a set of numbers (or UIDs) means. Raises CommandError for a number that is not there."""
        if numbers is None:
            return self.known(self.saved)
        if uid:
            return numbers.uids(self.uids)
        self._check(numbers)
        return self._between(numbers)

    def within(self, numbers: SequenceSet | None, uid: bool, uids: Sequence[int]) -> list[int]:
        """Those of these UIDs (ascending) that the client knows and a set of numbers (or UIDs) means; as ``resolve``,
        without looking at all that the set means."""
        if numbers is not None and not uid:
            self._check(numbers)
        known = self.known(uids)
        if numbers is None:
            return sorted(set(known) & set(self.saved))
        pairs = numbers.resolved(self.last if uid else self.count)
        places = known if uid else self.numbers(known)
        starts = [low for low, _ in pairs]
        found = [(each, place, bisect_right(starts, place)) for each, place in zip(known, places, strict=True)]
        return [each for each, place, behind in found if behind and place <= pairs[behind - 1][1]]

    def _check(self, numbers: SequenceSet) -> None:
        try:
            numbers.check(self.count)
        except SequenceError as error:
            raise CommandError(str(error)) from None

    def _between(self, numbers: SequenceSet) -> list[int]:
        if not self.count:
            return []
        pairs = numbers.resolved(self.count)
        if len(pairs) == 1:
            return self.uids[pairs[0][0] - 1 : pairs[0][1]]
        return [uid for low, high in pairs for uid in self.uids[low - 1 : high]]

    def search_uids(self, key: Numbers | Recent) -> Uids:
        """What only this session can tell of a search key."""
        if isinstance(key, Recent):
            return ranges(sorted(self.recent))
        if key.set is None:
            return ranges(self.known(self.saved))
        if key.uid:
            return Uids(tuple(key.set.resolved(max(1, self.last))))
        # Numbers that do not exist match nothing, as in Dovecot; RFC 9051 would allow BAD, too.
        return ranges(self._between(key.set))

    def arrived(self, uids: Sequence[int]) -> bool:
        """New messages at the end; whether there are any."""
        last = self.last
        fresh = [uid for uid in uids if uid > last]
        if fresh:
            self._change(self.uids + fresh)
        return bool(fresh)

    def expunge(self, uids: Iterable[int], *, vanished: bool) -> list[bytes]:
        """Takes messages out; the lines that say so, as VANISHED where the client enabled QRESYNC."""
        known = [(uid, number) for uid in sorted(uids) if (number := self.number(uid))]
        if not known:
            return []
        gone = {uid for uid, _ in known}
        self._change([uid for uid in self.uids if uid not in gone])
        self.recent -= gone
        for uid in gone & self.told.keys():
            del self.told[uid]
        if vanished:
            return [b"* VANISHED %b\r\n" % render_set(sorted(gone)).encode()]
        return [b"* %d EXPUNGE\r\n" % (number - before) for before, (_, number) in enumerate(known)]

    def flags(self, uid: int, flags: str) -> str:
        """The flags as this client sees them."""
        if uid in self.recent:
            return f"{flags} \\Recent" if flags else "\\Recent"
        return flags

    def learn(self, all_flags: Iterable[str]) -> list[bytes]:
        """A FLAGS line if there are keywords, in these lists of flags, that the client has not been told of."""
        words = {word for flags in all_flags for word in flags.split() if word[0] != "\\"}
        fresh = sorted(words - set(self.keywords)) if words else []
        if not fresh:
            return []
        self.keywords += fresh
        return [flags_line((*SYSTEM, *self.keywords))]

    def changed(self, rows: Sequence[tuple[int, str, int]], *, modseq: bool) -> list[bytes]:
        """FETCH lines for messages whose flags changed in a way that the client does not know yet; in UID order."""
        if self.told:
            told = self.told
            rows = [row for row in rows if told.get(row[0], 0) < row[2]]
        uids = [row[0] for row in rows]
        numbers = self.numbers(uids)
        if len(numbers) != len(uids):
            there = set(self.known(uids))
            rows = [row for row in rows if row[0] in there]
        lines = self.learn({flags for _, flags, _ in rows})
        if self.recent:
            rows = [(uid, self.flags(uid, flags), seq) for uid, flags, seq in rows]
        if modseq:
            text = "* %d FETCH (UID %d FLAGS (%s) MODSEQ (%d))\r\n"
            found = [text % (number, uid, flags, seq) for number, (uid, flags, seq) in zip(numbers, rows, strict=True)]
        else:
            text = "* %d FETCH (UID %d FLAGS (%s))\r\n"
            found = [text % (number, uid, flags) for number, (uid, flags, _) in zip(numbers, rows, strict=True)]
        return [*lines, "".join(found).encode()] if found else lines


def ranges(uids: Sequence[int]) -> Uids:
    """Ascending UIDs as ranges."""
    if uids and uids[-1] - uids[0] == len(uids) - 1:
        return Uids(((uids[0], uids[-1]),))
    found: list[tuple[int, int]] = []
    low, high = 0, -1
    for uid in uids:
        if uid != high + 1:
            if low:
                found.append((low, high))
            low = uid
        high = uid
    if low:
        found.append((low, high))
    return Uids(tuple(found))
