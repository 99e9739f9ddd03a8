"""Times of attempts: arithmetic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailguard.delivery.pacing import Pace
from mailguard.delivery.schedule import Schedule, Step
from mailguard.model.reply import Reply

DAY = 86_400


def test_waits_grow_from_a_minute_to_four_hours() -> None:
    waits = [Schedule().wait(n, 0.5) for n in range(1, 11)]
    assert waits[:4] == [60, 120, 240, 480] and waits[-1] == 14_400


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_jitter_stays_in_its_share(attempts: int, chance: float) -> None:
    plain, varied = Schedule(jitter=0).wait(attempts, 0.5), Schedule().wait(attempts, chance)
    assert 0.9 * plain - 1e-6 <= varied <= 1.1 * plain + 1e-6


def test_a_message_lives_five_days_and_is_tried_at_the_end() -> None:
    now, attempts, told = 0.0, 0, 0
    while True:
        attempts += 1
        step, at = Schedule().next(created=0, now=now, attempts=attempts, chance=0.5, delay_sent=told > 0)
        if step is Step.GIVE_UP:
            break
        told += step is Step.RETRY_AND_TELL
        now = at
    assert now == 5 * DAY and told == 1 and 30 < attempts < 50


def test_a_pace_starts_slowly_and_backs_off() -> None:
    pace = Pace(most=10, window=2)
    for _ in range(20):
        pace.succeeded()
    assert pace.window == 10
    pace.slowed()
    assert pace.window == 5
    pace.failed(100.0, Reply.of(451, "4.4.1", "no"), unreached=True)
    assert pace.blocked(159) and not pace.blocked(161)
    pace.failed(161.0, Reply.of(451, "4.4.1", "no"), unreached=True)
    assert pace.blocked(280)


def test_a_rate_is_kept() -> None:
    pace, sent, now = Pace(most=10, window=10, rate=60), 0, 1000.0
    while now < 1060:
        if pace.allowance(now) >= 1:
            pace.took()
            sent += 1
        now += 0.1
    assert 55 <= sent <= 61
