"""A small sample of what was learnt, kept beside the weights and learnt again, so that new mail does not wipe out old.

A slot holds one message as hashed numbers only: no text can be read back from it.
"""

from __future__ import annotations

import random
import struct
from array import array
from dataclasses import dataclass
from zlib import crc32

from .index import FEATURE_SET, Indexed
from .model import SLOT, Model

_HEAD = struct.Struct("<IBBHff5H")  # crc, label, feature set, size in octets, share, prior, five counts
_CODES = "HIIIH"
_MOST_TAGS = 320
_ROOM = SLOT - _HEAD.size


@dataclass(frozen=True, slots=True)
class Kept:
    """A message to learn or to rehearse: its numbers, its label (1 spam, 0 ham), at which share of the rate, and what
    the rules say of it (log-odds)."""

    numbers: Indexed
    label: int
    share: float = 1.0
    prior: float = 0.0


def pack(kept: Kept) -> bytes:
    """One slot's octets. What does not fit is thinned out evenly."""
    numbers = kept.numbers
    tags = [found[:_MOST_TAGS] for found in (numbers.tags, numbers.dress, numbers.local)]
    room = _ROOM - 4 * (sum(map(len, tags)) + 1)
    step = max(1, -(-2 * (len(numbers.words) + len(numbers.grams)) // room))
    lists = [numbers.words[::step], *tags, numbers.grams[::step]]
    body = b"".join([struct.pack(f"<{len(found)}{code}", *found) for code, found in zip(_CODES, lists, strict=True)])
    head = _HEAD.pack(0, kept.label, FEATURE_SET, len(body), kept.share, kept.prior, *map(len, lists))
    rest = head[4:] + body
    return crc32(rest).to_bytes(4, "little") + rest


def unpack(slot: memoryview) -> Kept | None:
    """What a slot holds, None when it is empty, of another feature set, or was half written when a crash came."""
    crc, label, feature_set, size, share, prior, *counts = _HEAD.unpack_from(slot)
    at = _HEAD.size
    if not crc or feature_set != FEATURE_SET or at + size > len(slot) or crc32(slot[4 : at + size]) != crc:
        return None
    lists = []
    for code, count in zip(_CODES, counts, strict=True):
        found = array(code)
        end = at + count * found.itemsize
        found.frombytes(slot[at:end])
        lists.append(found.tolist())
        at = end
    return Kept(Indexed(*lists), label, share, prior)


def keep(model: Model, kept: Kept, seen: int, chance: random.Random) -> None:
    """Reservoir sampling: after n messages each of them is in the sample with equal chance."""
    number = seen if seen < model.layout.slots else chance.randrange(seen + 1)
    if number < model.layout.slots:
        data = pack(kept)
        model.slot(number)[: len(data)] = data


def recall(model: Model, seen: int, chance: random.Random) -> Kept | None:
    """A random remembered message."""
    if seen < 1 or not model.layout.slots:
        return None
    return unpack(model.slot(chance.randrange(min(seen, model.layout.slots))))
