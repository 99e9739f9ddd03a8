"""Greylisting over time: who waits, who need not, what is remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

import mailguard_greylist
from mailguard.plugin import Finding
from mailguard.testing import FakeClock, Harness, MemoryStore, make_envelope, make_message, make_session


class Bench:
    def __init__(self, stack: ExitStack, **options: Any) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore(self.clock)
        harness = Harness(mailguard_greylist, store=self.store, now=self.clock, options=options)
        self.harness = stack.enter_context(harness)

    def word(self, ip: str = "192.0.2.1", sender: str = "a@example.net", mid: str = "<1@x>", **found: str) -> str:
        finding = self.harness.check(
            session=make_session(ip),
            envelope=make_envelope(sender),
            message=make_message(raw=f"Message-ID: {mid}\n\nx"),
            findings={name: Finding(word) for name, word in found.items()},
        )
        return finding.word if finding else "none"


Make = Callable[..., Bench]


@pytest.fixture
def make_bench() -> Iterator[Make]:
    with ExitStack() as stack:
        yield lambda **options: Bench(stack, **options)


def test_a_stranger_waits_then_passes_then_is_known(make_bench: Make) -> None:
    bench = make_bench()
    assert bench.word() == "grey"
    bench.clock.tick(60)
    assert bench.word() == "grey"
    bench.clock.tick(300)
    assert bench.word() == "passed"
    assert bench.word(sender="other@example.net", mid="<2@x>") == "known"
    bench.clock.tick(35 * 86_400)
    assert bench.word(mid="<3@x>") == "known"
    bench.clock.tick(37 * 86_400)
    assert bench.word(mid="<4@x>") == "grey"


def test_trust_lasts_while_mail_comes_and_is_seldom_written_anew(make_bench: Make) -> None:
    bench = make_bench()
    bench.word()
    bench.clock.tick(400)
    assert bench.word() == "passed"
    written = bench.store.items("client/")
    bench.clock.tick(3600)
    assert bench.word() == "known" and bench.store.items("client/") == written
    for _ in range(4):
        bench.clock.tick(20 * 86_400)
        assert bench.word() == "known"
    assert bench.store.items("client/") != written


def test_another_attempt_may_come_from_the_same_network_or_with_the_same_message(make_bench: Make) -> None:
    bench = make_bench()
    assert bench.word("192.0.2.1") == "grey"
    bench.clock.tick(400)
    assert bench.word("192.0.2.77", mid="<other@x>") == "passed"
    assert bench.word("198.51.100.1", mid="<9@x>", sender="b@example.net") == "grey"
    bench.clock.tick(400)
    assert bench.word("203.0.113.5", mid="<9@x>", sender="b@example.net") == "passed"


def test_spf_makes_all_hosts_of_a_domain_one_client(make_bench: Make) -> None:
    bench = make_bench()
    assert bench.word("192.0.2.1", spf="pass") == "grey"
    bench.clock.tick(400)
    assert bench.word("198.51.100.1", mid="<2@x>", spf="pass") == "passed"
    assert bench.word("203.0.113.1", mid="<3@x>", spf="pass") == "known"


def test_numbered_bounce_addresses_are_one_sender(make_bench: Make) -> None:
    bench = make_bench()
    assert bench.word(sender="bounce-123@example.net") == "grey"
    bench.clock.tick(400)
    assert bench.word(sender="bounce-456@example.net", mid="<2@x>") == "passed"


def test_an_aligned_pass_and_our_own_users_never_wait(make_bench: Make) -> None:
    bench = make_bench()
    assert bench.word(dmarc="pass") == "none"
    assert bench.harness.check(session=make_session(user="bob@example.org")) is None


def test_at_recipient_it_answers_before_the_message(make_bench: Make) -> None:
    bench = make_bench(at="recipient", delay="1m")
    finding = bench.harness.check(hook="check_recipient", envelope=make_envelope("a@example.net"))
    assert finding is not None
    assert (finding.word, finding.reason) == ("grey", "greylisted: please try again in 1 minute")
    bench.clock.tick(61)
    assert bench.word() == "passed"
