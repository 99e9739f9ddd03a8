"""The messages of a mailbox in memory, for what asks for all of them: searches by flag, SORT, THREAD."""

from __future__ import annotations

import threading
import time
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from typing import Any, NamedTuple, TypeVar

from mailguard.store.standing import State

IN_ROSTER = frozenset({"uid", "flags", "recent_flags"})
"""Columns that a roster always has (see ``content.OWN``)."""

_REMEMBERED = 6  # results of one roster
_OCTET = 256
_T = TypeVar("_T")

Mask = int
"""Messages of a roster: octet ``n`` is 1 where message ``n`` is meant."""


class Contents(NamedTuple):
    """The content ids of the first messages of a roster, those before the first that was not described."""

    epoch: int
    ids: array[int]

    def without(self, stay: bytes) -> Contents:
        """Those of the messages that stay."""
        return Contents(self.epoch, array("q", compress(self.ids, stay)))


class Roster:
    """``uids``, ascending, and the flags of a mailbox as the index had them at ``modseq``. It never changes; what was
    worked out of all its messages it remembers. Safe for threads."""

    def __init__(
        self,
        mailbox: tuple[int, int],
        modseq: int,
        uids: list[int],
        kinds: Sequence[str],
        codes: Sequence[int],
        contents: Contents | None = None,
    ) -> None:
        """``mailbox`` is its id in the index and its UIDVALIDITY; ``codes`` say which of the ``kinds`` of flags, as
        printed, each message has."""
        self.mailbox = mailbox
        self.modseq = modseq
        self.uids = uids
        self._kinds = kinds
        self._codes = bytes(codes) if len(kinds) <= _OCTET else codes
        self._contents = contents or Contents(0, array("q"))
        self._results: dict[object, Any] = {}

    @classmethod
    def of(cls, mailbox: tuple[int, int], modseq: int, rows: Sequence[tuple[int, str]]) -> Roster:
        """Of ``(uid, flags)`` of all messages, in the order of UIDs."""
        uids, flags = zip(*rows, strict=True) if rows else ((), ())
        kinds = sorted(set(flags))
        codes = {kind: code for code, kind in enumerate(kinds)}
        return cls(mailbox, modseq, list(uids), kinds, list(map(codes.__getitem__, flags)))

    def is_of(self, state: State) -> bool:
        """Whether this is how the mailbox stands."""
        return self.modseq == state.highest_modseq and self.mailbox == (state.id, state.uid_validity)

    def updated(self, modseq: int, changed: Sequence[tuple[int, str]], vanished: Iterable[int]) -> Roster:
        """As of a later MODSEQ, given ``(uid, flags)`` of the messages that came or changed since, and the UIDs that
        went."""
        uids, codes, gone = self.uids, list(self._codes), set(vanished)
        kinds = {kind: code for code, kind in enumerate(self._kinds)}
        came: list[tuple[int, int]] = []
        for uid, flags in changed:
            code, at = kinds.setdefault(flags, len(kinds)), bisect_left(uids, uid)
            if at < len(uids) and uids[at] == uid:
                codes[at] = code
            else:
                came.append((uid, code))
        if not came and gone.isdisjoint(uids):
            made = Roster(self.mailbox, modseq, uids, list(kinds), codes, self._contents)
            made._results = self._results
            return made
        stay = bytes(uid not in gone for uid in uids)
        uids, codes = list(compress(uids, stay)), list(compress(codes, stay))
        contents: Contents | None = self._contents.without(stay)
        if came:
            came.sort()
            if uids and came[0][0] < uids[-1]:  # one came back
                uids, codes = map(list, zip(*sorted([*zip(uids, codes, strict=True), *came]), strict=True))
                contents = None
            else:
                uids += [uid for uid, _ in came]
                codes += [code for _, code in came]
        return Roster(self.mailbox, modseq, uids, list(kinds), codes, contents)

    def contents(self, epoch: int, look_up: Callable[[int], Iterable[int]]) -> array[int]:
        """The content ids (see ``content``) of all messages, 0 where a message was not described yet. They never
        change in an ``epoch``, but from 0; ``look_up`` tells those of all messages from a UID on."""
        known = self._contents
        if known.epoch != epoch:
            known = Contents(epoch, array("q"))
        if len(known.ids) < len(self.uids):
            ids = known.ids + array("q", look_up(self.uids[len(known.ids)]))
            described = ids.index(0) if 0 in ids else len(ids)
            self._contents = Contents(epoch, ids[:described])
            return ids
        return known.ids

    def everyone(self) -> Mask:
        """All messages."""
        return int.from_bytes(b"\1" * len(self.uids), "little")

    def flagged(self, test: Callable[[str], bool]) -> Mask:
        """The messages whose flags, as printed, pass a test."""
        wanted = bytes(map(test, self._kinds))
        if isinstance(self._codes, bytes):
            return int.from_bytes(self._codes.translate(wanted.ljust(256, b"\0")), "little")
        return int.from_bytes(bytes([wanted[code] for code in self._codes]), "little")

    def between(self, ranges: Iterable[tuple[int, int]]) -> Mask:
        """The messages with UIDs in these ranges ``(low, high)``, both ends included."""
        mask = bytearray(len(self.uids))
        for low, high in ranges:
            first, last = bisect_left(self.uids, low), bisect_right(self.uids, high)
            mask[first:last] = b"\1" * (last - first)
        return int.from_bytes(mask, "little")

    def chosen(self, mask: Mask) -> list[int]:
        """The UIDs of the messages meant, ascending."""
        return list(compress(self.uids, mask.to_bytes(len(self.uids), "little"))) if mask else []

    def columns(
        self, uids: Sequence[int] | None, columns: Sequence[str], contents: Sequence[int] = ()
    ) -> list[Sequence[Any]]:
        """The columns (see IN_ROSTER, and ``cid`` given the ``contents`` of all) of these messages (ascending), or of
        all; missing ones are left out."""
        some, sources = self.uids, {"flags": self._codes, "cid": contents}
        if uids is not None and uids:
            first, last = bisect_left(some, uids[0]), bisect_right(some, uids[-1])
            some, sources = some[first:last], {name: source[first:last] for name, source in sources.items()}
        if uids is not None and some != uids:
            wanted = bytes(map(set(uids).__contains__, some))
            some = list(compress(some, wanted))
            sources = {name: list(compress(source, wanted)) for name, source in sources.items()}
        return [self._column(column, some, sources) for column in columns]

    def _column(self, name: str, uids: list[int], sources: dict[str, Sequence[int]]) -> Sequence[Any]:
        if name == "uid":
            return uids
        if name == "cid":
            return sources[name]
        kinds = [f"{kind} \\Recent".lstrip() for kind in self._kinds] if name == "recent_flags" else self._kinds
        return list(map(kinds.__getitem__, sources["flags"]))

    def recall(self, what: object) -> Any:
        """What was remembered under this key, None if nothing was. It is not to be changed."""
        return self._results.get(what)

    def remember(self, what: object, result: _T) -> _T:
        """Keeps a result that depends on nothing but which messages there are; returns it."""
        results = dict(self._results)
        results[what] = result
        self._results = dict(list(results.items())[-_REMEMBERED:])
        return result


class Rosters:
    """The rosters of all mailboxes of a process: ``messages`` at most, and none that nobody asked for in ``seconds``.
    Safe for threads."""

    def __init__(self, messages: int = 200_000, seconds: float = 600.0) -> None:
        self._most = messages
        self._life = seconds
        self._lock = threading.Lock()
        self._kept: OrderedDict[object, tuple[float, Roster]] = OrderedDict()

    def get(self, place: object) -> Roster | None:
        """The roster last put in this place, None if it was given up."""
        with self._lock:
            found = self._kept.get(place)
            if found is None:
                return None
            self._kept[place] = (time.monotonic(), found[1])
            self._kept.move_to_end(place)
            return found[1]

    def put(self, place: object, roster: Roster) -> None:
        """Keeps a roster instead of the one that was in its place."""
        now = time.monotonic()
        with self._lock:
            self._kept[place] = (now, roster)
            self._kept.move_to_end(place)
            total = sum(len(each.uids) for _, each in self._kept.values())
            for old, (at, each) in list(self._kept.items()):
                if old == place or (total <= self._most and now - at < self._life):
                    break
                del self._kept[old]
                total -= len(each.uids)
