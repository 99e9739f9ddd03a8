"""A small sample of what was learnt, kept beside the weights and learnt again, so that new mail does not wipe out old.

A slot holds one message as hashed numbers only: no text can be read back from it.
"""

from __future__ import annotations

import random
import struct
from array import array
from dataclasses import dataclass
from itertools import accumulate
from zlib import crc32

from .index import Indexed
from .model import SLOT, Model

_HEAD = struct.Struct("<IBBHffHHHH")  # crc, label, flags, size, share, prior, four counts
_ROOM = (SLOT - _HEAD.size) // 2


@dataclass(frozen=True, slots=True)
class Kept:
    """A message to learn or to rehearse: its numbers, its label (1 spam, 0 ham), at which share of the rate, and what
    the rules say of it (log-odds)."""

    numbers: Indexed
    label: int
    share: float = 1.0
    prior: float = 0.0


def pack(kept: Kept) -> bytes:
    """One slot's octets. What does not fit is thinned out evenly; gaps over 65535 are bridged by filler numbers."""
    numbers = kept.numbers
    lists = [sorted(found) for found in (numbers.words, numbers.tags, numbers.local, numbers.grams)]
    total = sum(map(len, lists)) + 64
    if total > _ROOM:
        step = -(-total // _ROOM)
        lists = [lists[0][::step], lists[1], lists[2], lists[3][::step]]
    packed = [_gaps(found) for found in lists]
    over = sum(map(len, packed)) - _ROOM
    if over > 0:
        packed[2] = packed[2][: max(0, len(packed[2]) - over)]
        packed[3] = packed[3][: max(0, _ROOM - sum(map(len, packed[:3])))]
    body = b"".join(p.tobytes() for p in packed)
    head = _HEAD.pack(0, kept.label, 0, len(body) // 2, kept.share, kept.prior, *map(len, packed))
    rest = head[4:] + body
    return crc32(rest).to_bytes(4, "little") + rest


def unpack(slot: memoryview) -> Kept | None:
    """What a slot holds, None when it is empty or was half written when the machine stopped."""
    crc, label, _, size, share, prior, *counts = _HEAD.unpack_from(slot)
    end = _HEAD.size + 2 * size
    if not crc or end > len(slot) or sum(counts) != size or crc32(slot[4:end]) != crc:
        return None
    body = array("H", bytes(slot[_HEAD.size : end]))
    lists = []
    at = 0
    for count in counts:
        lists.append(list(accumulate(body[at : at + count])))
        at += count
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


def _gaps(numbers: list[int]) -> array[int]:
    """The differences of neighbours, all at once: the numbers stand in lanes of 32 bits of one long integer."""
    size = 4 * len(numbers)
    lanes = int.from_bytes(struct.pack(f"<{len(numbers)}I", *numbers), "little")
    whole = memoryview(((lanes - (lanes << 32)) & ((1 << 8 * size) - 1)).to_bytes(size, "little"))
    halves = whole.cast("H")
    if not any(halves[1::2].tobytes()):
        return array("H", halves[::2].tobytes())
    out = array("H")
    for gap in whole.cast("I"):
        while gap > 65535:
            out.append(65535)
            gap -= 65535
        out.append(gap)
    return out
