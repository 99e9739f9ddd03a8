"""Sequence sets and UID sets: ``2,4:7,9,12:*`` (RFC 9051 §9)."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MAX = 0xFFFFFFFF
_SET = re.compile(r"(?:\*|[1-9]\d{0,9})(?::(?:\*|[1-9]\d{0,9}))?(?:,(?:\*|[1-9]\d{0,9})(?::(?:\*|[1-9]\d{0,9}))?)*\Z")


class SequenceError(ValueError):
    """Not a set, or a message number that does not exist."""


@dataclass(frozen=True, slots=True)
class SequenceSet:
    """A set as written; ``ranges`` are pairs of numbers in which ``*`` is 0."""

    ranges: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> SequenceSet:
        """Raises SequenceError."""
        if not _SET.match(text):
            raise SequenceError(f"{text[:40]!r} is not a sequence set")
        ranges = []
        for part in text.split(","):
            low, _, high = part.partition(":")
            ranges.append((_number(low), _number(high or low)))
        return cls(tuple(ranges))

    def resolved(self, largest: int) -> list[tuple[int, int]]:
        """The ranges in ascending order, joined where they touch, with ``*`` as ``largest`` (at least 1)."""
        star = max(largest, 1)
        pairs = sorted((min(p), max(p)) for p in ((a or star, b or star) for a, b in self.ranges))
        joined: list[tuple[int, int]] = []
        for low, high in pairs:
            if joined and low <= joined[-1][1] + 1:
                joined[-1] = (joined[-1][0], max(joined[-1][1], high))
            else:
                joined.append((low, high))
        return joined

    def check(self, count: int) -> None:
        """Raises SequenceError if a number does not exist in a mailbox of ``count`` messages."""
        if not count and any(pair != (0, 0) for pair in self.ranges):
            raise SequenceError("the mailbox is empty")
        highest = max(max(pair) for pair in self.ranges)
        if count and highest > count:
            raise SequenceError(f"there is no message {highest}, the last one is {count}")

    def numbers(self, count: int) -> list[int]:
        """Message numbers in a mailbox of ``count`` messages. Raises SequenceError for one that does not exist."""
        self.check(count)
        return [number for low, high in self.resolved(count) for number in range(low, high + 1)] if count else []

    def uids(self, existing: Sequence[int]) -> list[int]:
        """Those of the existing UIDs (ascending) that are in the set; others are silently left out."""
        found: list[int] = []
        for low, high in self.resolved(existing[-1] if existing else 1):
            found.extend(existing[bisect_left(existing, low) : bisect_right(existing, high)])
        return found


def _number(text: str) -> int:
    number = 0 if text == "*" else int(text)
    if number > MAX:
        raise SequenceError(f"{text} is over 32 bits")
    return number


def render_set(numbers: Iterable[int]) -> str:
    """Ascending numbers as the shortest set; a single number is never written ``n:n``."""
    parts: list[str] = []
    start = last = 0
    for number in (*numbers, 0):
        if start and number == last + 1:
            last = number
            continue
        if start:
            parts.append(str(start) if start == last else f"{start}:{last}")
        start = last = number
    return ",".join(parts)
