"""Plugins that run away: a loop without end, one that swallows every exception, one that eats memory, DNS that is
silent. Each costs its own deadline; nobody else's session waits, and no mail is lost."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from mailguard.net.resolver import DnsResolver
from mailguard.net.settings import DnsSettings
from mailguard.pipeline.calls import Calls, HungryError, Job
from mailguard.pipeline.pool import AbandonedError, CallTime, Pool
from mailguard.pipeline.verdict import Action
from mailguard.plugin import DnsTemporaryError, Finding
from mailguard.testing import make_envelope, make_message, make_session

WORDS = {"pass": "accept", "fail": "junk"}


def job(call, deadline=0.2, plugin="p"):
    return Job(plugin, "check_message", call, deadline, WORDS)


def through(engine):
    session, envelope = make_session(), make_envelope()
    mail = engine.connect(session).mail(session, envelope)
    mail.recipient(envelope, envelope.recipients[0].address)
    return mail.message(envelope, make_message())


def test_a_loop_without_end_is_ended():
    calls, ended = Calls(), threading.Event()

    def loop():
        try:
            while True:
                pass
        except AbandonedError:
            ended.set()
            raise

    (result,) = calls.together([job(loop)])
    assert result.finding is not None
    assert result.finding.detail == "DeadlineError: no answer within 0.2 s"
    assert ended.wait(5), "it still runs"
    # the thread lives on and takes the next call
    (after,) = calls.together([job(lambda: Finding("pass"), deadline=5)])
    assert after.finding == Finding("pass")
    calls.close()


def test_what_swallows_every_exception_ends_as_well():
    calls, rounds, stop = Calls(), [], threading.Event()

    def stubborn():
        while not stop.is_set():
            try:
                rounds.append(1)
                time.sleep(0.001)
            except Exception:
                continue

    (result,) = calls.together([job(stubborn)])
    assert "no answer" in result.finding.detail
    for _ in range(500):
        if not calls._health["p"].stuck:
            break
        time.sleep(0.01)
    stop.set()
    assert not calls._health["p"].stuck
    calls.close()


def test_so_many_hang_that_no_more_are_called():
    calls, hang = Calls(faults=100), threading.Event()
    for _ in range(8):
        calls.together([job(lambda: hang.wait(20), deadline=0.01)])
    assert calls.is_off("p")
    assert not calls.is_off("another")
    hang.set()
    for _ in range(500):
        if not calls.is_off("p"):
            break
        time.sleep(0.01)
    assert not calls.is_off("p")
    calls.close()


def test_others_do_not_wait_for_one_that_hangs(kit):
    engine = kit.engine('[[check]]\nplugin = "spf"\ndeadline = 30\n')
    hang = threading.Event()
    kit.spf.answer = lambda: [hang.wait(20), None][1] if threading.current_thread().name else None
    slow = threading.Thread(target=through, args=(engine,))
    slow.start()
    other = kit.engine('[[check]]\nplugin = "dmarc"\n')
    kit.dmarc.answer = lambda: Finding("pass")
    begun = time.monotonic()
    for _ in range(20):
        assert through(other).action is Action.ACCEPT
    assert time.monotonic() - begun < 10
    hang.set()
    slow.join(30)


def test_one_that_eats_memory_is_stopped_long_before_its_deadline():
    seen = []
    calls = Calls(memory=64 << 20, on_fault=lambda plugin, error, off: seen.append(error))

    def eat():
        hoard = []
        while len(hoard) < 2000:  # 2 GB, if nobody stops it
            hoard.append(bytearray(1 << 20))
            time.sleep(0.001)
        return Finding("pass")

    begun = time.monotonic()
    (result,) = calls.together([job(eat, deadline=60)])
    assert result.finding.word == "error"
    assert isinstance(seen[0], HungryError)
    assert time.monotonic() - begun < 30
    calls.close()


def test_a_call_given_up_before_it_began_never_runs():
    pool, hang, ran = Pool(1), threading.Event(), []
    first = pool.submit(lambda: hang.wait(10))
    second = pool.submit(lambda: ran.append(1))
    assert not pool.abandon(second)
    hang.set()
    first.result(10)
    pool.submit(lambda: None).result(10)
    assert not ran
    pool.close()


def test_many_calls_given_up_leave_the_pool_sound():
    pool = Pool(4)

    def spin():
        until = time.monotonic() + 0.002
        while time.monotonic() < until:
            pass

    for n in range(300):
        future = pool.submit(spin)
        if n % 2:
            time.sleep(0.0015)
            pool.abandon(future)
    assert [pool.submit(lambda n=n: n).result(10) for n in range(50)] == list(range(50))
    pool.close()


@pytest.fixture
def silence():
    """A name server that never answers; its address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_dns_that_is_silent_is_a_temporary_error_within_the_deadline(kit, silence):
    resolver = DnsResolver(DnsSettings(nameservers=(silence,), timeout=20))
    engine = kit.engine('[[check]]\nplugin = "spf"\ndeadline = 2\n', dns=resolver)
    context = engine._contexts["spf"]

    def ask():
        try:
            context.dns.query("example.net", "TXT")
        except DnsTemporaryError:
            return Finding("softfail", "asked in vain")
        return None

    kit.spf.answer = ask
    begun = time.monotonic()
    verdict = through(engine)
    assert verdict.findings["spf"].reason == "asked in vain"
    assert time.monotonic() - begun < 10


def test_no_time_left_is_no_question():
    from mailguard.pipeline.pool import HurriedResolver
    from mailguard.testing import FakeResolver

    dns, clock = FakeResolver(), CallTime()
    hurried = HurriedResolver(dns, clock)
    assert not hurried.query("example.net", "A").records
    clock.until = time.monotonic()
    with pytest.raises(DnsTemporaryError, match="no time left"):
        hurried.query("example.net", "A")
    assert len(dns.asked) == 1
