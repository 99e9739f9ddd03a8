"""Lessons with a memory: nothing is taught twice, a correction undoes the earlier label, a crash loses nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from .arrival import digest
from .journal import Arrival, Journal, Lesson
from .judge import Circumstance, Judge, Seen
from .rehearsal import Kept, pack, unpack
from .relearning import Relearnt, learn_again

_DAY = 86400.0
MOST_SHARED_A_DAY = 40
HEAD_START = 60
"""So many lessons of one account a day reach the global model, and in all only so many more than all others gave it;
further ones teach the account's own model only. Lessons by command are the administrator's and not counted."""
SHARE = 0.3
"""At which part of the full rate a user's lesson reaches the global model."""
MOST_SILENT = 200
"""So many arrivals are settled at once."""
_REPEATS = 6
_CUT_SHORT = 60.0


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
        arrival = self.journal.claim(account, name)
        seen = self.judge.look(raw, circumstance or Circumstance())
        before = self.judge.judge(seen, account)
        if old and old.label == label and old.done:
            return Outcome("known", before.points, before.points)
        share = self.share if origin == "command" else self._share(account, now)
        kept = self.judge.kept(seen, label, share)
        full = unpack(memoryview(arrival.numbers)) if arrival else None
        if full:  # as it was seen on arrival, with what other checks found
            kept = replace(full, label=label, share=share)
        old_score, old_line = before.score.total, before.line.at
        row = Lesson(account, name, label, now, old_score, old_line, origin, share > 0, False, pack(kept))
        self.journal.begin(row)
        self.judge.learn(kept, account, arrived=arrival.score if arrival else None)
        corrected = bool(old and old.label != label)
        if old and corrected:  # back to where it was before the wrong lesson, and to the right side at least
            goal = max(before.line.at, old.score) if label else min(0.0, old.score)
            self._insist(seen, label, account, goal, share)
            self.judge.uncount(account, 1 - label, seen.numbers)
        self.journal.done(account, name)
        after = self.judge.judge(seen, account).points
        return Outcome("corrected" if corrected else "learnt", before.points, after)

    def undo(self, raw: bytes, label: int, account: str) -> Outcome:
        """Takes a lesson of that label back: pushes the score to where it was before."""
        name = digest(raw)
        old = self.journal.find(account, name)
        seen = self.judge.look(raw)
        before = self.judge.judge(seen, account).points
        if not old or old.label != label:
            return Outcome("unknown", before, before)
        self._insist(seen, 1 - old.label, account, old.score, self.share)
        self.judge.uncount(account, old.label, seen.numbers)
        self.journal.forget(account, name)
        return Outcome("undone", before, self.judge.judge(seen, account).points)

    def liked(self, raw: bytes, account: str, now: float) -> None:
        """The reader answered, marked or filed a message: it was wanted, as if it had lain long enough."""
        arrival = self.journal.claim(account, digest(raw))
        if arrival:
            self._wanted(arrival, now, "kept")

    def settle(self, before: float, now: float) -> int:
        """Mail that came before a time and that nobody complained of was wanted: its scores count for the line, and
        it is learnt as ham. What lay in Junk says nothing: few people look there. Returns how many."""
        claimed = self.journal.claim_older(before, MOST_SILENT)
        for arrival in claimed:
            if not arrival.junk:
                self._wanted(arrival, now, "silence")
        return len(claimed)

    def automatic(self, arrival: Arrival, kept: Kept, label: int, now: float) -> None:
        """Learns a message on the filter's own word; it does not count for the line."""
        if not self.journal.find(arrival.account, arrival.digest):
            self._finish(arrival, replace(kept, label=label, share=0.0), now, "automatic", None)

    def _wanted(self, arrival: Arrival, now: float, origin: str) -> None:
        kept = unpack(memoryview(arrival.numbers))
        if kept and not self.journal.find(arrival.account, arrival.digest):
            kept = replace(kept, label=0, share=self._share(arrival.account, now))
            self._finish(arrival, kept, now, origin, arrival.score)

    def _finish(self, arrival: Arrival, kept: Kept, now: float, origin: str, score: float | None) -> None:
        account, name = arrival.account, arrival.digest
        shared = kept.share > 0
        row = Lesson(account, name, kept.label, now, arrival.score, 0.0, origin, shared, False, pack(kept))
        self.journal.begin(row)
        self.judge.learn(kept, account, arrived=score)
        self.journal.done(account, name)

    def finish(self, now: float) -> int:
        """Learns what a crash cut short; returns how many lessons that were."""
        rows = self.journal.unfinished(now - _CUT_SHORT)
        for row in rows:
            kept = unpack(memoryview(row.numbers))
            if kept:
                self.judge.learn(kept, row.account)
            self.journal.done(row.account, row.digest)
        return len(rows)

    def rebuild(self, account: str, messages: Iterable[bytes]) -> Relearnt:
        """Makes an account's model anew from its journal; ``messages`` are all that may be in it, as they arrived."""
        self.judge.clear(account)
        return learn_again(self.judge, self.journal, account, messages)

    def _share(self, account: str, now: float) -> float:
        day, ever, others = self.journal.shared(account, now - _DAY)
        return self.share if day < MOST_SHARED_A_DAY and ever < HEAD_START + others else 0.0

    def _insist(self, seen: Seen, label: int, account: str, goal: float, share: float) -> None:
        kept = self.judge.kept(seen, label, share)
        for _ in range(_REPEATS):
            total = self.judge.judge(seen, account).score.total
            if (total > goal) == bool(label):
                return
            self.judge.learn(kept, account, count=False)
