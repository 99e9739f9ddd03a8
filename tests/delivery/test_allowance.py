"""Who has sent too much, by hour, by day, and to strangers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mailguard.delivery.alert import held_mail
from mailguard.delivery.allowance import Allowance
from mailguard.delivery.submission_settings import SubmissionSettings
from mailguard.model.address import Address
from mailguard.state.database import Database, metadata
from mailguard.state.settings import StateSettings
from mailguard.testing import FakeClock

ANN = "ann@office.test"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(StateSettings(), tmp_path)
    metadata.create_all(made.engine)
    yield made
    made.close()


def allowance(database: Database, clock: FakeClock, **limits: int) -> Allowance:
    names = ("messages_per_hour", "messages_per_day", "recipients_per_hour", "recipients_per_day")
    none = dict.fromkeys((*names, "new_recipients_per_day"), 0)
    return Allowance(database, SubmissionSettings(**(none | limits)), now=clock)  # type: ignore[arg-type]


def test_each_limit_says_which_one_it_is(database: Database) -> None:
    clock = FakeClock()
    two = allowance(database, clock, messages_per_hour=2)
    assert [two.count(ANN, ["a@x"]) for _ in range(2)] == [None, None]
    excess = two.count(ANN, ["a@x"])
    assert excess is not None and excess.alert
    assert excess.reason == "ann@office.test: 3 messages in one hour, messages_per_hour of [submission] is 2"
    again = two.count(ANN, ["a@x"])
    assert again is not None and not again.alert  # told once a day
    assert two.count("bob@office.test", ["a@x"]) is None
    clock.tick(3600)
    assert two.count(ANN, ["a@x"]) is None


def test_days_and_recipients(database: Database) -> None:
    clock = FakeClock()
    day = allowance(database, clock, messages_per_day=2, recipients_per_hour=5)
    assert day.count(ANN, ["a@x"]) is None
    clock.tick(3 * 3600)
    assert day.count(ANN, ["a@x"]) is None
    over = day.count(ANN, ["a@x"])
    assert over is not None and "3 messages in one day" in over.reason
    many = day.count("bob@office.test", [f"u{n}@x" for n in range(6)])
    assert many is not None and "6 recipients in one hour" in many.reason
    clock.tick(25 * 3600)
    day.prune()
    assert day.count(ANN, ["a@x"]) is None


def test_strangers(database: Database) -> None:
    clock = FakeClock()
    strangers = allowance(database, clock, new_recipients_per_day=3)
    assert strangers.count(ANN, ["a@x", "b@x", "c@x"]) is None
    for _ in range(10):
        assert strangers.count(ANN, ["a@x", "b@x", "c@x"]) is None  # no strangers any more
    over = strangers.count(ANN, ["d@x"])
    assert over is not None and "4 recipients in one day that it never wrote to before" in over.reason
    assert strangers.count(ANN, ["d@x"]) is None
    clock.tick(86_401)
    assert strangers.count(ANN, ["e@x"]) is None


def test_the_alert_names_the_commands() -> None:
    message = held_mail(
        "id1",
        hostname="mx.test",
        to=Address("postmaster", "office.test"),
        account=Address("ann", "office.test"),
        reason="too much",
        now=0.0,
    )
    text = bytes(message).decode()
    assert "too much" in text and "mailguard queue release --from ann@office.test" in text
    assert text.count("\n") == text.count("\r\n")
    assert message.get("Auto-Submitted") == "auto-generated"
