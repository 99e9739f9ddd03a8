"""How hard one destination is worked: slow start, back-off, a rate; no clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailguard.model.reply import Reply

FIRST_BLOCK = 60.0  # seconds a destination is left alone after nobody answered there
LONGEST_BLOCK = 900.0
_LOST_IN_A_ROW = 3


@dataclass(slots=True)
class Pace:
    """The state of one destination in this runner. Guarded by the runner's lock; times are Unix times.

    ``window`` is how many connections it may have now: one more after each success, half after each failure.
    """

    most: int
    window: float
    rate: float = 0.0  # messages per minute, 0: no limit
    active: int = 0
    blocked_until: float = 0.0
    why: Reply | None = None
    last_used: float = 0.0
    _failures: int = 0
    _tokens: float = field(default=1.0)
    _refilled: float = 0.0

    def may_start(self, now: float) -> bool:
        """Whether one more connection may work on it."""
        return self.active < max(1, int(self.window)) and self.allowance(now) >= 1

    def allowance(self, now: float) -> float:
        """How many messages its rate allows at this moment."""
        if not self.rate:
            return float("inf")
        if self._refilled:
            # No more than a second's worth is saved up, so that a pause is not followed by a burst.
            room = max(1.0, self.rate / 60)
            self._tokens = min(room, self._tokens + (now - self._refilled) * self.rate / 60)
        self._refilled = now
        return self._tokens

    def next_token(self, now: float) -> float:
        """The Unix time from which ``may_start`` can hold as far as the rate goes."""
        lacking = 1 - self.allowance(now)
        return now + max(0.0, lacking) * 60 / self.rate if self.rate else now

    def took(self) -> None:
        """A message was sent or tried."""
        self._tokens -= 1

    def blocked(self, now: float) -> Reply | None:
        """The answer that every message for it gets for now, None if it may be tried."""
        return self.why if now < self.blocked_until else None

    def unblock(self) -> None:
        """It is to be tried now, whatever was heard before."""
        self.blocked_until = 0.0

    def succeeded(self) -> None:
        """Its server took mail."""
        self._failures = 0
        self.why = None
        self.window = min(self.window + 1, self.most)

    def slowed(self) -> None:
        """Its server put us off (4xx)."""
        self.window = max(self.window / 2, 1)

    def failed(self, now: float, reply: Reply, *, unreached: bool) -> None:
        """Nobody answered there (``unreached``), or the connection broke."""
        self.window = max(self.window / 2, 1)
        self._failures += 1
        if unreached or self._failures >= _LOST_IN_A_ROW:
            rounds = min(self._failures - 1 if unreached else self._failures - _LOST_IN_A_ROW, 8)
            self.blocked_until = now + min(FIRST_BLOCK * 2**rounds, LONGEST_BLOCK)
            self.why = reply
