"""What the command line asks of the filter, outside of any connection: teach, take back, explain, count, rebuild."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mailguard.plugin import Finding

from .journal import Lesson
from .office import MAX_MESSAGE, Office, finding_of
from .school import Outcome

_BY_PEOPLE = frozenset({"move", "flag", "command", "release"})
_RECENT = 1000


@dataclass(frozen=True, slots=True)
class Stats:
    """What one account taught. Of its last lessons by people: ``rescued`` were ham that had been junked, ``missed``
    spam that had not been; ``confirmed`` ham was scored as it arrived and stood; ``line`` is in log-odds."""

    account: str
    ham: int
    spam: int
    confirmed: int
    lessons: int
    rescued: int
    missed: int
    line: float
    last_at: float

    @property
    def error(self) -> float:
        """Corrections among the lessons that were looked at, 0 to 1."""
        return (self.rescued + self.missed) / self.lessons if self.lessons else 0.0


class Desk:
    """The filter of one installation for commands; safe beside a running server."""

    def __init__(self, office: Office) -> None:
        self._office = office

    def teach(self, stored: bytes, account: str, *, spam: bool, now: float, origin: str = "command") -> Outcome:
        """Teaches one message, as it lies in a mailbox, to an account."""
        return self._office.teach(stored[:MAX_MESSAGE], int(spam), self._office.account_of(account), now, origin=origin)

    def undo(self, stored: bytes, account: str, *, spam: bool) -> Outcome:
        """Takes the lesson of a message back, if it was taught as that."""
        return self._office.undo(stored[:MAX_MESSAGE], int(spam), self._office.account_of(account))

    def explain(self, stored: bytes, account: str, now: float) -> Finding:
        """What the filter thinks of a message now, with up to twenty reasons."""
        judged, reasons, _ = self._office.explain(stored[:MAX_MESSAGE], account, now)
        return finding_of(judged, reasons)

    def stats(self) -> list[Stats]:
        """One row for each account that was taught anything."""
        journal, judge = self._office.journal, self._office.judge
        return [self._stats(name, journal.recent(name, _RECENT), judge.line(name)) for name in journal.accounts()]

    def _stats(self, account: str, rows: list[Lesson], line: float) -> Stats:
        model = self._office.judge.personal(account)
        people = [row for row in rows if row.origin in _BY_PEOPLE]
        return Stats(
            account,
            int(model.ham) if model else 0,
            int(model.spam) if model else 0,
            int(model.counts[3]) if model else 0,
            len(rows),
            sum(row.label == 0 and row.score > row.line > 0 for row in people),
            sum(row.label == 1 and row.score <= row.line for row in people),
            line,
            rows[0].at if rows else 0.0,
        )

    def rebuild(self, account: str, messages: Iterable[bytes]) -> tuple[int, int]:
        """Makes an account's model anew from what its journal says of these messages. Returns how many lessons were
        learnt again, and for how many the message is gone."""
        return self._office.rebuild(account.lower(), messages)
