"""SEARCH over one mailbox: SQL where the index knows the answer, the kept text of the messages for the rest."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from datetime import date
from functools import partial, reduce
from operator import and_

from mailguard.protocol.imap import search
from mailguard.protocol.imap.search import Key
from mailguard.protocol.imap.searchtext import SearchText
from mailguard.protocol.imap.sort import fold
from mailguard.store.roster import Mask, Roster
from mailguard.store.textsearch import SearchableView, TextTest

_DAY = 86_400
_EPOCH = date(1970, 1, 1).toordinal()
_TERMS = ("subject", "from", "to", "cc", "bcc")
_COMPARE = {"before": operator.lt, "on": operator.eq, "since": operator.ge}
_ALWAYS, _NEVER = "1", "0"
_UNSEEN = search.Not(search.Flag("\\Seen"))

Condition = tuple[str, tuple[int | str, ...]]
"""An SQL condition over columns in braces, and its values (see SearchableView.matching)."""


def find(mailbox: SearchableView, key: Key, now: float) -> list[int]:
    """The UIDs that match, ascending. ``key`` is resolved (see search.resolve); ``now`` is the Unix time that WITHIN
    counts from."""
    if key == _UNSEEN and (few := mailbox.few_unseen()) is not None:
        return few
    if _asks_flags(key):
        roster = mailbox.roster()
        return roster.chosen(_mask(roster, key))
    return sorted(_Finder(mailbox, now).find(key, None))


def _asks_flags(key: Key) -> bool:
    """Whether flags and UIDs tell all that is asked for."""
    return all(isinstance(leaf, search.Flag | search.Uids | search.All) for leaf in search.leaves(key))


def _mask(roster: Roster, key: Key) -> Mask:
    match key:
        case search.And(keys):
            return reduce(and_, (_mask(roster, each) for each in keys), roster.everyone())
        case search.Or(left, right):
            return _mask(roster, left) | _mask(roster, right)
        case search.Not(inner):
            return roster.everyone() ^ _mask(roster, inner)
        case search.Flag(name):
            wanted = f" {name.lower()} "
            return roster.flagged(lambda flags: wanted in f" {flags.lower()} ")
        case search.Uids(ranges):
            return roster.between(ranges)
        case _:
            return roster.everyone()


class _Finder:
    def __init__(self, mailbox: SearchableView, now: float) -> None:
        self._mailbox = mailbox
        self._now = now

    def find(self, key: Key, among: set[int] | None) -> set[int]:
        """The UIDs that match, of ``among`` if given."""
        if not _needs_more(key):
            condition, values = self._condition(key)
            found = set(self._mailbox.matching(condition, *values))
            return found if among is None else found & among
        match key:
            case search.And(keys):
                return self._all_of(keys, among)
            case search.Or(left, right):
                return self.find(left, among) | self.find(right, among)
            case search.Not(inner):
                some = set(self._mailbox.uids()) if among is None else among
                return some - self.find(inner, some)
            case _:
                return self._look_into(key, None if among is None else sorted(among))

    def _all_of(self, keys: Sequence[Key], among: set[int] | None) -> set[int]:
        """What SQL can tell first, then what is described: it leaves less text to be looked at."""
        plain = tuple(key for key in keys if not _needs_more(key))
        found = self.find(search.And(plain), among) if plain else among
        for key in sorted(filter(_needs_more, keys), key=_needs_text):
            found = self.find(key, found)
        return found or set()

    def _look_into(self, key: Key, uids: Sequence[int] | None) -> set[int]:
        match key:
            case search.Header(name, text) if name in _TERMS:
                return set(self._mailbox.containing(name, fold(text), uids))
            case search.EmailId(value):
                return {uid for uid, id in self._mailbox.rows(uids, ("uid", "email_id")) if id == value}
            case search.Date("sent", relation, day):
                compare, wanted = _COMPARE[relation], day.toordinal() - _EPOCH
                rows = self._mailbox.rows(uids, ("uid", "sent_day", "date"))
                return {uid for uid, sent, date in rows if compare(date // _DAY if sent is None else sent, wanted)}
            case _:
                return self._mailbox.texts_matching(_test(key), uids)

    def _condition(self, key: Key) -> Condition:
        match key:
            case search.And(keys):
                return self._joined(keys, " AND ", _ALWAYS)
            case search.Or(left, right):
                return self._joined((left, right), " OR ", _NEVER)
            case search.Not(search.Flag(name)) if name.lower() == "\\seen":
                return "instr({flags}, '\\Seen') = 0", ()
            case search.Not(inner):
                condition, values = self._condition(inner)
                return f"NOT ({condition})", values
            case search.Uids(ranges):
                if not ranges:
                    return _NEVER, ()
                condition = " OR ".join(["{uid} BETWEEN ? AND ?"] * len(ranges))
                return condition, tuple(end for pair in ranges for end in pair)
            case _:
                return self._leaf(key)

    def _joined(self, keys: Sequence[Key], word: str, empty: str) -> Condition:
        parts = [self._condition(key) for key in keys]
        return word.join(f"({c})" for c, _ in parts) or empty, tuple(v for _, values in parts for v in values)

    def _leaf(self, key: Key) -> Condition:
        match key:
            case search.Flag(name):
                return "instr(' ' || lower({flags}) || ' ', ?) > 0", (f" {name.lower()} ",)
            case search.Size(larger, octets):
                return f"{{size}} {'>' if larger else '<'} ?", (octets,)
            case search.Date(kind, relation, day):
                return _dated(kind, relation, day.toordinal() - _EPOCH)
            case search.Within(younger, seconds):
                return f"{{date}} {'>=' if younger else '<'} ?", (int(self._now) - seconds,)
            case search.ModSeq(value):
                return "{modseq} >= ?", (value,)
            case _:
                return _ALWAYS, ()


def _dated(kind: str, relation: str, day: int) -> Condition:
    compare = {"before": "<", "on": "=", "since": ">="}[relation]
    column = "{date}" if kind == "internal" else "{saved}"
    return f"{column} / {_DAY} {compare} ?", (day,)


def _needs_more(key: Key) -> bool:
    """Whether more is asked than the index's rows of messages tell."""
    return any(
        isinstance(leaf, search.Header | search.EmailId | search.Body | search.Text)
        or (isinstance(leaf, search.Date) and leaf.kind == "sent")
        for leaf in search.leaves(key)
    )


def _needs_text(key: Key) -> bool:
    return any(
        leaf.name not in _TERMS if isinstance(leaf, search.Header) else isinstance(leaf, search.Body | search.Text)
        for leaf in search.leaves(key)
    )


def _test(key: Key) -> TextTest:
    match key:
        case search.Body(text):
            return TextTest(fold(text), header=False, body=True)
        case search.Text(text):
            return TextTest(fold(text), header=True, body=True)
        case search.Header(name, text):
            wanted = fold(text)
            sure = partial(_has_field, name, wanted)
            return TextTest(wanted or f"{name}: ", header=True, body=False, sure=sure)
    raise ValueError(f"{key} is not about text")


def _has_field(name: str, text: str, found: SearchText) -> bool:
    return found.has_field(name, text)
