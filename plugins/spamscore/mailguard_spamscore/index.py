"""From features to the numbers the tables are addressed by. A number never depends on process or run.

Word pairs and 4-grams are hashed many at a time: the values stand side by side in 64-bit lanes of one long integer, so
that one multiplication or one mask by the interpreter's own arithmetic serves hundreds of them.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from zlib import crc32

from .token import MAX_GRAM, MAX_WORDS, Features

WORD_BITS, TAG_BITS, GRAM_BITS = 18, 16, 18
FEATURE_SET = 2
"""Raised whenever the meaning of a number changes: model files of another set are rebuilt from the journal."""

_TAG_MASK = (1 << TAG_BITS) - 1
_FULL = 0xFFFFFFFF
_GRAM_FACTOR = 0x9E3779B1


def _lanes(value: int, count: int) -> int:
    return int.from_bytes(value.to_bytes(8, "little") * count, "little")


_WORD_LANES = _lanes((1 << WORD_BITS) - 1, MAX_WORDS)
_GRAM_LANES = _lanes((1 << GRAM_BITS) - 1, MAX_GRAM // 8 + 1)
_LOW_LANES = _lanes(_FULL, MAX_GRAM // 8 + 1)


@dataclass(frozen=True, slots=True)
class Indexed:
    """Distinct table numbers of one message: of words and word pairs, of tags any server sees alike, of what is
    local to this server (same table as the tags), of 4-grams."""

    words: list[int]
    tags: list[int]
    local: list[int]
    grams: list[int]


def near(first: int, second: int) -> int:
    """The hash of two neighbouring words from theirs."""
    return (first * 5 + second * 3) & _FULL


def word_numbers(words: list[bytes]) -> list[int]:
    """Numbers of the words (at most MAX_WORDS), of neighbours and of neighbours but one."""
    count = len(words)
    if not count:
        return []
    hashes = array("Q", map(crc32, words))
    lanes = int.from_bytes(hashes.tobytes(), "little")
    pairs = (lanes * 5 + (lanes >> 64) * 3) & _WORD_LANES
    gapped = (lanes * 7 + (lanes >> 128) * 11) & _WORD_LANES
    size = 8 * count
    found = set(memoryview((lanes & _WORD_LANES).to_bytes(size, "little")).cast("Q").tolist())
    # The last word has no neighbour, the last two none behind one.
    found.update(memoryview(pairs.to_bytes(size, "little")[:-8]).cast("Q").tolist())
    found.update(memoryview(gapped.to_bytes(size, "little")[: max(0, size - 16)]).cast("Q").tolist())
    return list(found)


def tag_numbers(tags: list[bytes]) -> list[int]:
    """Numbers of tagged tokens."""
    return list({h & _TAG_MASK for h in map(crc32, tags)})


def gram_numbers(text: bytes) -> list[int]:
    """Numbers of all runs of four bytes of a text of at most MAX_GRAM octets."""
    whole = int.from_bytes(text, "little")
    pieces = []
    for offset in range(min(8, len(text) - 3)):
        count = (len(text) - offset - 4) // 8 + 1
        lanes = ((whole >> 8 * offset) & _LOW_LANES) * _GRAM_FACTOR >> 9 & _GRAM_LANES
        pieces.append(lanes.to_bytes(8 * len(_ROOM), "little")[: 8 * count])
    return list(set(memoryview(b"".join(pieces)).cast("Q").tolist()))


_ROOM = range(MAX_GRAM // 8 + 1)


def index(features: Features) -> Indexed:
    """All numbers of a message."""
    return Indexed(
        word_numbers(features.words),
        tag_numbers(features.tags),
        tag_numbers(features.local),
        gram_numbers(features.gram),
    )
