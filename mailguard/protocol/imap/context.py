"""Searches whose results a client wants to have kept up to date (CONTEXT=SEARCH, RFC 5267 §4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mailguard.protocol.imap.lexer import CommandError, Lexer
from mailguard.protocol.imap.response import esearch_line
from mailguard.protocol.imap.search import And, Key
from mailguard.protocol.imap.sequence import render_set
from mailguard.protocol.imap.view import View, ranges

MOST = 16  # of one connection


def parse_cancel(lexer: Lexer) -> tuple[bytes, ...]:
    """The tags behind ``CANCELUPDATE``."""
    tags = []
    while lexer.accept(b" "):
        tags.append(lexer.string())
    if not tags:
        raise CommandError("CANCELUPDATE needs the tags of searches")
    return tuple(tags)


@dataclass(slots=True)
class _Context:
    """One of them; ``key`` is resolved (see search.resolve), ``uids`` are what the client knows as its result."""

    tag: bytes
    uid: bool
    key: Key
    uids: set[int]

    def line(self, view: View, word: str, uids: Iterable[int]) -> bytes:
        """An ESEARCH answer; a result without an order has no positions: they are 0 (RFC 5267 §4.3.2)."""
        some = sorted(uids)
        shown = some if self.uid else view.numbers(some)
        return esearch_line(self.tag, self.uid, [(word, b"(0 %b)" % render_set(shown).encode())])


class Contexts:
    """Those of one connection and one selected mailbox. ``touched`` are the UIDs of messages that the client itself
    changed since its last look."""

    def __init__(self) -> None:
        self._kept: dict[bytes, _Context] = {}
        self.touched: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._kept)

    def add(self, tag: bytes, *, uid: bool, key: Key, uids: Iterable[int]) -> bool:
        """Keeps a result; whether there was room."""
        if len(self._kept) >= MOST:
            return False
        self._kept[tag] = _Context(tag, uid, key, set(uids))
        return True

    def cancel(self, tags: Iterable[bytes]) -> None:
        """Forgets some of them. Raises CommandError for a tag that is none of theirs."""
        for tag in tags:
            if self._kept.pop(tag, None) is None:
                raise CommandError("no search with that tag is kept up to date")

    def clear(self) -> None:
        """The mailbox is no longer selected."""
        self._kept.clear()
        self.touched.clear()

    def removed(self, view: View, gone: Iterable[int]) -> list[bytes]:
        """What is told of messages before their numbers go."""
        lines = []
        for context in self._kept.values():
            if lost := context.uids.intersection(gone):
                lines.append(context.line(view, "REMOVEFROM", lost))
                context.uids -= lost
        return lines

    def changed(self, view: View, uids: Iterable[int], find: Callable[[Key], Sequence[int]]) -> list[bytes]:
        """What is told of messages that came or changed; ``find`` searches the mailbox."""
        known = set(view.known(sorted(self.touched.union(uids))))
        self.touched.clear()
        lines = []
        for context in self._kept.values() if known else ():
            now = known.intersection(find(And((ranges(sorted(known)), context.key))))
            if lost := (known - now) & context.uids:
                lines.append(context.line(view, "REMOVEFROM", lost))
            if came := now - context.uids:
                lines.append(context.line(view, "ADDTO", came))
            context.uids = context.uids - lost | came
        return lines
