"""A selected mailbox as one client knows it: message numbers, and what must be told before they change."""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.response import flags_line
from mailguard.protocol.imap.search import Numbers, Recent, Uids
from mailguard.protocol.imap.sequence import SequenceError, SequenceSet, render_set

SYSTEM = ("\\Answered", "\\Flagged", "\\Deleted", "\\Seen", "\\Draft")


class View:
    """``uids`` are in message number order (ascending); ``modseq`` up to which the client knows everything but the
    ``gone`` UIDs, which it could not be told of yet. ``recent`` are UIDs that are \\Recent here; ``told`` the MODSEQ
    that the client knows of some messages beyond ``modseq``; ``saved`` the result that ``$`` stands for."""

    __slots__ = ("_packed", "_uids", "gone", "keywords", "modseq", "recent", "saved", "told")

    def __init__(self, uids: list[int], modseq: int, keywords: Sequence[str] = ()) -> None:
        self._uids: list[int] | None = uids
        self._packed = b""
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
            pairs = struct.iter_unpack("<II", zlib.decompress(self._packed))
            self._uids = [uid for low, high in pairs for uid in range(low, high + 1)]
            self._packed = b""
        return self._uids

    @uids.setter
    def uids(self, uids: list[int]) -> None:
        self._uids = uids

    def rest(self) -> None:
        """Packs the UIDs until they are needed again: a session that waits costs little."""
        if self._uids is not None:
            pairs = b"".join([struct.pack("<II", low, high) for low, high in ranges(self._uids).ranges])
            self._packed, self._uids = zlib.compress(pairs, 1), None

    def number(self, uid: int) -> int:
        """The message number of a UID, 0 if the client does not know it."""
        at = bisect_left(self.uids, uid)
        return at + 1 if at < len(self.uids) and self.uids[at] == uid else 0

    def numbers(self, uids: Iterable[int]) -> list[int]:
        """Those of many."""
        return [number for uid in uids if (number := self.number(uid))]

    def resolve(self, numbers: SequenceSet | None, uid: bool) -> list[int]:
        """The UIDs a set of numbers (or UIDs) means. Raises CommandError for a number that is not there."""
        if numbers is None:
            return self.saved_uids()
        if uid:
            return numbers.uids(self.uids)
        try:
            return [self.uids[number - 1] for number in numbers.numbers(len(self.uids))]
        except SequenceError as error:
            raise CommandError(str(error)) from None

    def saved_uids(self) -> list[int]:
        """What ``$`` means now: messages that are gone are not in it any more (RFC 5182 §2.1)."""
        return [uid for uid in self.saved if self.number(uid)]

    def search_uids(self, key: Numbers | Recent) -> Uids:
        """What only this session can tell of a search key."""
        if isinstance(key, Recent):
            return ranges(sorted(self.recent))
        if key.set is not None and key.uid:
            return Uids(tuple(key.set.resolved(self.uids[-1] if self.uids else 1)))
        if key.set is None:
            return ranges(self.saved_uids())
        # Numbers that do not exist match nothing, as in Dovecot; RFC 9051 would allow BAD, too.
        count = len(self.uids)
        return ranges(
            [uid for low, high in (key.set.resolved(count) if count else ()) for uid in self.uids[low - 1 : high]]
        )

    def arrived(self, uids: Sequence[int]) -> bool:
        """New messages at the end; whether there are any."""
        last = self.uids[-1] if self.uids else 0
        fresh = [uid for uid in uids if uid > last]
        self.uids += fresh
        return bool(fresh)

    def expunge(self, uids: Iterable[int], *, vanished: bool) -> list[bytes]:
        """Takes messages out; the lines that say so, as VANISHED where the client enabled QRESYNC."""
        known = [(uid, number) for uid in sorted(uids) if (number := self.number(uid))]
        if not known:
            return []
        gone = {uid for uid, _ in known}
        self.uids = [uid for uid in self.uids if uid not in gone]
        self.recent -= gone
        for uid in gone:
            self.told.pop(uid, None)
        if vanished:
            return [b"* VANISHED %b\r\n" % render_set(sorted(gone)).encode()]
        return [b"* %d EXPUNGE\r\n" % (number - before) for before, (_, number) in enumerate(known)]

    def flags(self, uid: int, flags: str) -> str:
        """The flags as this client sees them."""
        if uid in self.recent:
            return f"{flags} \\Recent" if flags else "\\Recent"
        return flags

    def learn(self, keywords: Iterable[str]) -> list[bytes]:
        """A FLAGS line if there are keywords that the client has not been told of."""
        known = set(self.keywords)
        fresh = [word for word in keywords if word not in known and not word.startswith("\\")]
        if not fresh:
            return []
        self.keywords += dict.fromkeys(fresh)
        return [flags_line((*SYSTEM, *self.keywords))]

    def changed(self, rows: Iterable[tuple[int, str, int]], *, modseq: bool) -> list[bytes]:
        """FETCH lines for messages whose flags changed in a way that the client does not know yet."""
        lines: list[bytes] = []
        words: set[str] = set()
        for uid, flags, seq in rows:
            number = self.number(uid)
            if not number or self.told.get(uid, 0) >= seq:
                continue
            if "\\" not in flags or len(flags) > 40:
                words.update(flags.split())
            else:
                words.update(word for word in flags.split() if word[0] != "\\")
            tail = b" MODSEQ (%d)" % seq if modseq else b""
            lines.append(b"* %d FETCH (UID %d FLAGS (%b)%b)\r\n" % (number, uid, self.flags(uid, flags).encode(), tail))
        return self.learn(words) + lines if words else lines


def ranges(uids: Sequence[int]) -> Uids:
    """Ascending UIDs as ranges."""
    found: list[tuple[int, int]] = []
    for uid in uids:
        if found and found[-1][1] == uid - 1:
            found[-1] = (found[-1][0], uid)
        else:
            found.append((uid, uid))
    return Uids(tuple(found))
