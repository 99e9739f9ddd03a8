"""What SEARCH, SORT and THREAD ask for, as a tree that any store can evaluate (RFC 9051 §6.4.4).

Sequence numbers, ``$`` and \\Recent mean something to one session only: ``resolve`` replaces them with UIDs
before a store sees the tree.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from mailguard.protocol.imap.sequence import SequenceSet


@dataclass(frozen=True, slots=True)
class All:
    """Every message."""


@dataclass(frozen=True, slots=True)
class And:
    """All of these."""

    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Either of two."""

    left: Key
    right: Key


@dataclass(frozen=True, slots=True)
class Not:
    """The others."""

    key: Key


@dataclass(frozen=True, slots=True)
class Flag:
    """Messages with a flag or keyword, compared in any case."""

    name: str


@dataclass(frozen=True, slots=True)
class Uids:
    """Messages whose UID lies in one of these ranges ``(low, high)``, ascending, both ends included."""

    ranges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Header:
    """Messages with a header field ``name`` (lower case) that contains ``text``; any such field where it is empty.

    ``subject``, ``from``, ``to``, ``cc`` and ``bcc`` are asked for in this way, too.
    """

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Body:
    """``text`` in the decoded text of the body."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """``text`` in the header or the body."""

    text: str


@dataclass(frozen=True, slots=True)
class Size:
    """Larger, else smaller, than ``octets``."""

    larger: bool
    octets: int


@dataclass(frozen=True, slots=True)
class Date:
    """The day of INTERNALDATE (``internal``), of the Date field (``sent``) or of saving (``saved``): before, on or
    since ``day``."""

    kind: Literal["internal", "sent", "saved"]
    relation: Literal["before", "on", "since"]
    day: datetime.date


@dataclass(frozen=True, slots=True)
class Within:
    """INTERNALDATE within the last ``seconds``, else before them (RFC 5032)."""

    younger: bool
    seconds: int


@dataclass(frozen=True, slots=True)
class ModSeq:
    """MODSEQ of at least ``value`` (RFC 7162 §3.1.5)."""

    value: int


@dataclass(frozen=True, slots=True)
class EmailId:
    """The message with this EMAILID (RFC 8474)."""

    value: str


@dataclass(frozen=True, slots=True)
class Numbers:
    """Messages by number, or by UID where ``uid``; ``set`` is None for ``$``. Gone after ``resolve``."""

    set: SequenceSet | None
    uid: bool = False


@dataclass(frozen=True, slots=True)
class Recent:
    """\\Recent messages. Gone after ``resolve``."""


Key = (
    All
    | And
    | Or
    | Not
    | Flag
    | Uids
    | Header
    | Body
    | Text
    | Size
    | Date
    | Within
    | ModSeq
    | EmailId
    | Numbers
    | Recent
)

NOTHING = Uids(())
"""No message."""


def resolve(key: Key, uids_of: Callable[[Numbers | Recent], Uids]) -> Key:
    """The tree with ``uids_of`` put in for what only the session knows."""
    match key:
        case And(keys):
            return And(tuple(resolve(each, uids_of) for each in keys))
        case Or(left, right):
            return Or(resolve(left, uids_of), resolve(right, uids_of))
        case Not(inner):
            return Not(resolve(inner, uids_of))
        case Numbers() | Recent():
            return uids_of(key)
        case _:
            return key


def leaves(key: Key) -> Iterator[Key]:
    """The keys that AND, OR and NOT put together."""
    match key:
        case And(keys):
            for each in keys:
                yield from leaves(each)
        case Or(left, right):
            yield from leaves(left)
            yield from leaves(right)
        case Not(inner):
            yield from leaves(inner)
        case _:
            yield key


def uses_modseq(key: Key) -> bool:
    """Whether MODSEQ is asked for, which turns CONDSTORE on (RFC 7162 §3.1.5)."""
    return any(isinstance(leaf, ModSeq) for leaf in leaves(key))
