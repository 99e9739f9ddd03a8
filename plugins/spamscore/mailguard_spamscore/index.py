"""From features to the numbers the tables are addressed by. A number never depends on process or run.

Word pairs and 4-grams are hashed many at a time: the values stand side by side in lanes of one long integer, so that
one multiplication or one mask by the interpreter's own arithmetic serves hundreds of them.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from zlib import crc32

from .token import MAX_GRAM, MAX_WORDS, Features

WORD_BITS, TAG_BITS, GRAM_BITS = 16, 17, 16
FEATURE_SET = 5
"""Raised whenever the meaning of a number changes: model files of another set are rebuilt from the journal."""

Spoken = tuple["array[int]", "array[int]"]
TAG_MASK = (1 << TAG_BITS) - 1
_FULL = 0xFFFFFFFF
_GRAM_FACTOR = 0x9E3779B1


def _lanes(value: int, count: int, octets: int = 8) -> int:
    return int.from_bytes(value.to_bytes(octets, "little") * count, "little")


_WORD_LANES = _lanes((1 << WORD_BITS) - 1, MAX_WORDS, 4)
_LOW_LANES = _lanes(_FULL, MAX_GRAM // 8 + 1)


@dataclass(frozen=True, slots=True)
class Indexed:
    """Distinct table numbers of one message: of words and word pairs; of tags any server sees alike, those of
    the header, those of links and make-up, and what is local to this server (one table for all tags); of 4-grams."""

    words: list[int]
    tags: list[int]
    dress: list[int]
    local: list[int]
    grams: list[int]


def spoken_numbers(words: list[bytes]) -> Spoken:
    """Numbers of the words (at most MAX_WORDS) and of neighbours, each in its order; of neighbours one fewer."""
    lanes, size = _word_lanes(words), 4 * len(words)
    pairs = lanes * 5 + (lanes >> 32) * 3
    return _low(lanes.to_bytes(size, "little"), 2), _low(pairs.to_bytes(size, "little"), 2)[:-1]


def _word_lanes(words: list[bytes]) -> int:
    """The numbers of words in lanes of 32 bits. They have 16, and no sum of theirs here more than 19."""
    return int.from_bytes(array("I", list(map(crc32, words))).tobytes(), "little") & _WORD_LANES


def _low(lanes: bytes, step: int) -> array[int]:
    """The lower 16 bits of each lane of ``step`` times as many. An array: a list would keep an object for each of
    thousands, all in memory that no cache holds."""
    return array("H", memoryview(lanes).cast("H")[::step].tobytes())


def tag_numbers(tags: list[bytes]) -> list[int]:
    """Numbers of tagged tokens."""
    return list({h & TAG_MASK for h in map(crc32, tags)})


def gram_numbers(text: bytes) -> list[int]:
    """Numbers of all runs of four bytes of a text of at most MAX_GRAM octets."""
    whole = int.from_bytes(text, "little")
    pieces = []
    for offset in range(min(8, len(text) - 3)):
        count = (len(text) - offset - 4) // 8 + 1
        lanes = ((whole >> 8 * offset) & _LOW_LANES) * _GRAM_FACTOR >> 9
        pieces.append(lanes.to_bytes(8 * len(_ROOM), "little")[: 8 * count])
    return list(set(_low(b"".join(pieces), 4)))


_ROOM = range(MAX_GRAM // 8 + 1)


def index(features: Features, spoken: Spoken) -> Indexed:
    """All numbers of a message, of whose words the numbers are known."""
    single, paired = spoken
    return Indexed(
        list(set(single).union(paired)),
        tag_numbers(features.tags),
        tag_numbers(features.dress),
        tag_numbers(features.local),
        gram_numbers(features.gram),
    )
