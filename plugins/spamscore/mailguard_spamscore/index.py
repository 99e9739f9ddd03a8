"""From features to the numbers the tables are addressed by. A number never depends on process or run."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from zlib import crc32

from .token import Features

WORD_BITS, TAG_BITS, GRAM_BITS = 19, 16, 19
FEATURE_SET = 1
"""Raised whenever the meaning of a number changes: model files of another set are rebuilt from the journal."""

_WORD_MASK = (1 << WORD_BITS) - 1
_TAG_MASK = (1 << TAG_BITS) - 1
_GRAM_MASK = (1 << GRAM_BITS) - 1
_FULL = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Indexed:
    """Sorted, distinct table numbers of one message: of words and word pairs, of tags any server sees alike, of
    what is local to this server (same table as the tags), of 4-grams."""

    words: list[int]
    tags: list[int]
    local: list[int]
    grams: list[int]


def near(first: int, second: int) -> int:
    """The hash of two neighbouring words from theirs."""
    return (first * 5 + second * 3) & _FULL


def apart(first: int, second: int) -> int:
    """The hash of two words with one between them."""
    return (first * 7 + second * 11) & _FULL


def word_numbers(words: list[bytes]) -> list[int]:
    """Numbers of the words, of neighbours and of neighbours but one."""
    hashes = list(map(crc32, words))
    mask = _WORD_MASK
    found = {h & mask for h in hashes}
    found.update([(a * 5 + b * 3) & mask for a, b in itertools.pairwise(hashes)])
    found.update([(a * 7 + b * 11) & mask for a, b in zip(hashes, hashes[2:], strict=False)])
    return sorted(found)


def tag_numbers(tags: list[bytes]) -> list[int]:
    """Numbers of tagged tokens."""
    return sorted({h & _TAG_MASK for h in map(crc32, tags)})


def gram_numbers(text: bytes) -> list[int]:
    """Numbers of all runs of four bytes."""
    view = memoryview(text)
    found: set[int] = set()
    for offset in range(4):
        piece = view[offset:]
        found.update(piece[: len(piece) // 4 * 4].cast("I").tolist())
    return sorted({(x * 0x9E3779B1 >> 9) & _GRAM_MASK for x in found})


def index(features: Features) -> Indexed:
    """All numbers of a message."""
    return Indexed(
        word_numbers(features.words),
        tag_numbers(features.tags),
        tag_numbers(features.local),
        gram_numbers(features.gram),
    )
