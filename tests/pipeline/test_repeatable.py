"""Checks that wait for nothing but the DNS: called at once, and again when what they miss has been asked for."""

from __future__ import annotations

import contextlib
import threading
import time

from mailguard.net.resolver import Answer, DnsTemporaryError
from mailguard.pipeline.calls import Calls, Job
from mailguard.pipeline.finding import Finding
from mailguard.pipeline.pool import CallTime, HurriedResolver
from mailguard.pipeline.rounds import ROUNDS
from mailguard.plugin import ask_all
from mailguard.testing import FakeResolver

WORDS = {"pass": "accept"}


class Caching(FakeResolver):
    """Has at hand what was asked for before."""

    def __init__(self) -> None:
        super().__init__({f"{name}.example A": "192.0.2.1" for name in "abcdef"} | {"bad.example A": TimeoutError})
        self.known: dict[str, Answer] = {}
        self.failed: set[str] = set()

    def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> Answer:
        try:
            self.known[name] = super().query(name, rdtype)
        except DnsTemporaryError:
            self.failed.add(name)
            raise
        return self.known[name]

    def at_hand(self, name: str, rdtype: str) -> Answer:
        if name in self.failed:
            raise DnsTemporaryError(name)
        return self.known.get(name)  # type: ignore[return-value]


class Bench:
    """Calls, a resolver, and the threads on which checks ran."""

    def __init__(self) -> None:
        time_ = CallTime()
        self.inner = Caching()
        self.dns = HurriedResolver(self.inner, time_)
        self.calls = Calls(time_=time_, resolver=self.inner)
        self.threads: list[bool] = []

    def job(self, *names: str, swallow: bool = False) -> Job:
        def call() -> Finding:
            self.threads.append(threading.current_thread() is threading.main_thread())
            with contextlib.suppress(BaseException) if swallow else contextlib.nullcontext():
                for name in names:
                    self.dns.query(name, "A")
            return Finding("pass", str(len(self.inner.known)))

        return Job("spf", "check_sender", call, 30.0, WORDS, repeatable=True)


def test_at_once_where_the_answers_are_at_hand() -> None:
    bench = Bench()
    bench.dns.query("a.example", "A")
    (result,) = bench.calls.together([bench.job("a.example")])
    assert result.finding == Finding("pass", "1") and bench.threads == [True]
    assert result.ms > 0
    bench.calls.close()


def test_asked_in_between_where_the_answers_are_not() -> None:
    bench = Bench()
    one, two = bench.calls.together([bench.job("a.example", "b.example"), bench.job()])
    assert one.finding == Finding("pass", "2") and two.finding is not None
    assert bench.threads == [True] * 4
    bench.calls.together([bench.job("b.example", "a.example")])
    assert bench.threads[4:] == [True]
    bench.calls.close()


def test_what_several_miss_is_asked_together() -> None:
    bench = Bench()
    bench.calls.together([bench.job("a.example"), bench.job("b.example"), bench.job("a.example")])
    assert bench.inner.asked == [("a.example", "A"), ("b.example", "A")]
    assert bench.threads == [True] * 6
    bench.calls.close()


def test_on_a_thread_after_too_many_rounds() -> None:
    bench = Bench()
    names = [f"{name}.example" for name in "abcdef"]
    (result,) = bench.calls.together([bench.job(*names)])
    assert result.finding == Finding("pass", "6")
    assert bench.threads == [True] * ROUNDS + [False]
    bench.calls.close()


def test_on_a_thread_beside_checks_that_are_watched() -> None:
    bench = Bench()
    other = Job("slow", "check_sender", lambda: Finding("pass"), 30.0, WORDS)
    one, _ = bench.calls.together([bench.job("a.example"), other])
    assert one.finding == Finding("pass", "1") and bench.threads == [True, False]
    bench.calls.close()


def test_a_check_that_swallows_everything_is_asked_again() -> None:
    bench = Bench()
    (result,) = bench.calls.together([bench.job("a.example", swallow=True)])
    assert result.finding == Finding("pass", "1") and bench.threads == [True, True]
    bench.calls.close()


def test_failures_and_exceptions_are_as_ever() -> None:
    bench = Bench()
    for _ in range(2):
        (result,) = bench.calls.together([bench.job("bad.example")])
        assert isinstance(result.fault, DnsTemporaryError)
    assert bench.threads == [True] * 3
    (good,) = bench.calls.together([bench.job()])
    assert good.fault is None
    bench.calls.close()


def test_many_questions() -> None:
    bench = Bench()
    questions = [("a.example", "A"), ("bad.example", "A")]

    def call() -> Finding:
        bench.threads.append(threading.current_thread() is threading.main_thread())
        first, second = ask_all(bench.dns, questions, timeout=5)
        assert isinstance(first, Answer) and isinstance(second, DnsTemporaryError)
        return Finding("pass")

    job = Job("dnsbl", "check_message", call, 30.0, WORDS, repeatable=True)
    for _ in range(2):
        (result,) = bench.calls.together([job])
        assert result.finding == Finding("pass"), result.fault
    assert bench.threads == [True] * 3
    bench.calls.close()


class Slow:
    """Has nothing at hand, and is silent when it is asked for the first time."""

    def __init__(self) -> None:
        self.asked = 0

    def at_hand(self, name: str, rdtype: str) -> None:
        return None

    def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> Answer:
        assert timeout is not None
        self.asked += 1
        if self.asked > 1:
            return Answer(("192.0.2.1",))
        time.sleep(timeout)
        raise DnsTemporaryError(name)


def test_silent_dns_takes_no_check_more_than_its_own_time() -> None:
    time_, slow = CallTime(), Slow()
    dns = HurriedResolver(slow, time_)
    calls = Calls(time_=time_, resolver=slow)

    def check() -> Finding:
        try:
            return Finding("pass", dns.query("a.example", "A").records[0])
        except DnsTemporaryError:
            return Finding("pass", "temporary")

    jobs = [Job(name, "check_sender", check, left, WORDS, repeatable=True) for name, left in (("x", 0.1), ("y", 30))]
    hurried, patient = calls.together(jobs)
    assert hurried.finding == Finding("pass", "temporary") and patient.finding == Finding("pass", "192.0.2.1")
    assert slow.asked == 2
    calls.close()
