"""When to try again, when to say that it takes long, when to give up: arithmetic only (RFC 5321 §4.5.4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Step(Enum):
    """What a temporary failure leads to."""

    RETRY = "retry"
    RETRY_AND_TELL = "retry, and tell the sender that it is delayed"
    GIVE_UP = "give up"


@dataclass(frozen=True, slots=True)
class Schedule:
    """All in seconds; ``growth`` multiplies the wait each time, ``jitter`` is the share it may vary either way."""

    first: float = 60
    longest: float = 14_400
    growth: float = 2.0
    jitter: float = 0.1
    delay_notice: float = 14_400
    give_up: float = 432_000

    def wait(self, attempts: int, chance: float) -> float:
        """Seconds to the next attempt after ``attempts`` failed ones (at least 1); ``chance`` in 0..1."""
        # The exponent is bounded so that a very old recipient cannot overflow the power.
        plain = min(self.first * self.growth ** min(attempts - 1, 64), self.longest)
        return plain * (1 + self.jitter * (2 * chance - 1))

    def next(self, *, created: float, now: float, attempts: int, chance: float, delay_sent: bool) -> tuple[Step, float]:
        """What to do after a temporary failure, and the Unix time of the next attempt (0 after GIVE_UP).

        The last attempt is made when the time is up, not up to four hours before.
        """
        if now >= created + self.give_up:
            return Step.GIVE_UP, 0.0
        at = min(now + self.wait(attempts, chance), created + self.give_up)
        at = max(at, now + 1)
        late = now >= created + self.delay_notice and not delay_sent and self.delay_notice > 0
        return (Step.RETRY_AND_TELL if late else Step.RETRY), at
