"""Lessons with a memory: nothing is taught twice, a correction undoes the earlier label, a crash leaves a mark."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .arrival import digest
from .journal import Journal, Lesson
from .judge import Circumstance, Judge, Seen

_DAY = 86400.0
MOST_SHARED_A_DAY = 200
"""So many lessons of one account a day reach the global model; more teach its own only."""
SHARE = 0.1
"""At which part of the full rate a user's lesson reaches the global model."""
_REPEATS = 6


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a lesson: ``done`` is learnt, corrected, undone, known or unknown; scores before and after
    in points."""

    done: str
    before: float
    after: float


class School:
    """Teaches through the journal."""

    def __init__(self, judge: Judge, journal: Journal, *, share: float = SHARE) -> None:
        self.judge = judge
        self.journal = journal
        self.share = share

    def teach(
        self, raw: bytes, label: int, account: str, now: float, *, origin: str, circumstance: Circumstance | None = None
    ) -> Outcome:
        """Teaches one message (as it arrived) as spam (1) or ham (0)."""
        name = digest(raw)
        old = self.journal.find(account, name)
        seen = self.judge.look(raw, circumstance or Circumstance())
        before = self.judge.judge(seen, account)
        if old and old.label == label and old.done:
            return Outcome("known", before.points, before.points)
        share = self.share if self.journal.count_since(account, now - _DAY) < MOST_SHARED_A_DAY else 0.0
        row = Lesson(account, name, label, now, before.score.total, before.line.at, origin)
        self.journal.begin(row)
        self.judge.learn(seen, label, account, share=share)
        if old and old.label != label:
            self._insist(seen, label, account, before.line.at if label else 0.0, share)
            self.judge.uncount(account, old.label)
        self.journal.done(account, name)
        after = self.judge.judge(seen, account).points
        return Outcome("corrected" if old and old.label != label else "learnt", before.points, after)

    def undo(self, raw: bytes, account: str) -> Outcome:
        """Takes a lesson back: pushes the score to where it was before."""
        name = digest(raw)
        old = self.journal.find(account, name)
        seen = self.judge.look(raw)
        before = self.judge.judge(seen, account).points
        if not old:
            return Outcome("unknown", before, before)
        self._insist(seen, 1 - old.label, account, old.score, self.share)
        self.judge.uncount(account, old.label)
        self.journal.forget(account, name)
        return Outcome("undone", before, self.judge.judge(seen, account).points)

    def rebuild(self, account: str, messages: Iterable[bytes]) -> tuple[int, int]:
        """Makes an account's model anew from its journal; ``messages`` are all that may be in it, as they arrived.
        Returns how many lessons were learnt again and how many messages are gone."""
        rows = {row.digest: row for row in self.journal.all(account)}
        self.judge.renew(account)
        found = 0
        for raw in messages:
            row = rows.pop(digest(raw), None)
            if row:
                self.judge.learn(self.judge.look(raw), row.label, account, share=0.0)
                found += 1
        return found, len(rows)

    def _insist(self, seen: Seen, label: int, account: str, goal: float, share: float) -> None:
        for _ in range(_REPEATS):
            total = self.judge.judge(seen, account).score.total
            if (total > goal) == bool(label):
                return
            self.judge.learn(seen, label, account, share=share, count=False)
