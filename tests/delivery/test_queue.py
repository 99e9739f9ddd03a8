"""The queue: durable in, leased out, never lost."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from mailguard.delivery.queue import KEEP_ORPHANS, Queue
from mailguard.delivery.queue_body import ORPHANS
from mailguard.delivery.queue_entry import Settlement, Work
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.event import Event, Held
from mailguard.model.message import Message
from mailguard.model.reply import Reply
from mailguard.state.database import Database, metadata
from mailguard.state.settings import StateSettings

OK = Reply.of(250, "2.0.0", "queued")
LATER = Reply.of(451, "4.3.0", "later")


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path):
    database = Database(StateSettings(), tmp_path)
    metadata.create_all(database.engine)
    yield database
    database.close()


@pytest.fixture
def queue(database: Database, tmp_path: Path, clock: Clock) -> Queue:
    return Queue(database, tmp_path / "queue", now=clock)


def envelope(ident: str = "m1", sender: str | None = "a@office.test", **more) -> Envelope:
    return Envelope(id=ident, mail_from=Address.parse(sender) if sender else None, **more)


def to(*addresses: str) -> list[Recipient]:
    return [Recipient(Address.parse(a)) for a in addresses]


def done(work: Work) -> list[Settlement]:
    return [Settlement(work.message.id, r.row, OK, 1.0) for r in work.recipients]


def claim(queue: Queue, destination: str = "x.test", limit: int = 10) -> list[Work]:
    return queue.claim(destination, limit=limit, lease_seconds=900)


def files(queue: Queue) -> list[str]:
    return sorted(p.name for p in queue.bodies.folder.glob("*.eml"))


def test_put_claim_settle(queue: Queue, clock: Clock) -> None:
    queue.put(
        envelope(ret="HDRS", envid="e1"), Message(b"A: b\r\n\r\nbody\r\n"), to("u@x.test", "v@x.test", "w@y.test")
    )
    assert [name for name, _ in queue.due(clock.at)] == ["x.test", "y.test"]
    (work,) = claim(queue)
    assert [str(r.recipient.address) for r in work.recipients] == ["u@x.test", "v@x.test"]
    assert work.message.envelope.ret == "HDRS" and work.message.envelope.envid == "e1"
    assert bytes(queue.bodies.read(work.message.id)) == b"A: b\r\n\r\nbody\r\n"
    queue.settle(done(work))
    assert files(queue) == ["m1.eml"]  # w@y.test still needs it
    queue.settle(done(*claim(queue, "y.test")))
    assert files(queue) == [] and queue.due(clock.at) == []


def test_a_claim_is_exclusive_until_the_lease_ends(
    queue: Queue, database: Database, tmp_path: Path, clock: Clock
) -> None:
    other = Queue(database, tmp_path / "queue", node="other", now=clock)
    queue.put(envelope(), Message(b"\r\n"), to("u@x.test"))
    (work,) = claim(queue)
    assert claim(other) == []
    clock.at += 901
    assert len(claim(other)) == 1
    queue.settle(done(work))  # too late: the lease is another's
    assert files(queue) == ["m1.eml"]
    assert not queue.renew([work.recipients[0].row], clock.at + 900)


def test_deferral_keeps_the_answer_and_the_time(queue: Queue, clock: Clock) -> None:
    queue.put(envelope(), Message(b"\r\n"), to("u@x.test"))
    (work,) = claim(queue)
    queue.settle(
        [Settlement("m1", work.recipients[0].row, LATER, 5.0, retry_at=1060.0, host="mx.x.test", tls="TLSv1.3")]
    )
    assert claim(queue) == []
    clock.at = 1060.0
    (work,) = claim(queue)
    (recipient,) = work.recipients
    assert (recipient.attempts, recipient.last, recipient.last_host) == (1, LATER, "mx.x.test")


def test_a_new_runner_takes_its_nodes_leases_back(
    queue: Queue, database: Database, tmp_path: Path, clock: Clock
) -> None:
    queue.put(envelope(), Message(b"\r\n"), to("u@x.test"))
    claim(queue)
    again = Queue(database, tmp_path / "queue", now=clock)
    assert again.take_back() == 1
    assert len(claim(again)) == 1


def test_the_same_message_may_come_twice(queue: Queue) -> None:
    queue.put(envelope(), Message(b"A: 1\r\n\r\n"), to("u@x.test"))
    queue.put(envelope(), Message(b"A: 2\r\n\r\n"), to("v@x.test"))
    assert files(queue) == ["m1-2.eml", "m1.eml"]
    assert [w.message.envelope.id for w in claim(queue)] == ["m1", "m1"]


def test_a_failed_commit_leaves_nothing(queue: Queue, database: Database) -> None:
    metadata.drop_all(database.engine)
    with pytest.raises(sa.exc.OperationalError):
        queue.put(envelope(), Message(b"\r\n"), to("u@x.test"))
    assert files(queue) == []


def test_many_threads_share_commits(queue: Queue, clock: Clock) -> None:
    def put(n: int) -> None:
        queue.put(envelope(f"m{n}"), Message(b"\r\n"), to("u@x.test"))

    threads = [threading.Thread(target=put, args=(n,)) for n in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claim(queue, limit=100)) == 30 and len(files(queue)) == 30


def test_hold_and_future_release(queue: Queue, clock: Clock) -> None:
    queue.put(envelope(), Message(b"\r\n"), to("u@x.test"), hold=True, reason="asked")
    queue.put(envelope("m2", hold_until=5000), Message(b"\r\n"), to("u@x.test"))
    assert claim(queue) == []
    clock.at = 5000.0
    assert [w.message.id for w in claim(queue)] == ["m2"]


def test_a_sender_over_its_cap_is_held(database: Database, tmp_path: Path, clock: Clock) -> None:
    events: list[Event] = []
    queue = Queue(database, tmp_path / "queue", sender_cap=2, now=clock, emit=events.append)
    queue.put(envelope("m1"), Message(b"\r\n"), to("u@x.test", "v@x.test"))
    queue.put(envelope("m2"), Message(b"\r\n"), to("w@x.test"))
    assert [w.message.id for w in claim(queue)] == ["m1"]
    assert isinstance(events[-1], Held) and "the cap is 2" in events[-1].reason
    clock.at += 3600
    queue.put(envelope("m3"), Message(b"\r\n"), to("w@x.test"))
    assert [w.message.id for w in claim(queue)][-1] == "m3"


def test_what_a_message_needs_is_seen_when_it_comes(queue: Queue) -> None:
    raw = "Subject: ä\r\nTLS-Required: No\r\n\r\nx".encode()
    queue.put(envelope(smtputf8=True), Message(raw), to("u@x.test"))
    queue.put(envelope("m2", smtputf8=True, body_8bit=True), Message(b"A: b\r\n\r\nx"), to("u@x.test"))
    queue.put(envelope("m3", require_tls=True), Message(raw), to("u@x.test"))
    first, second, third = (w.message for w in claim(queue))
    assert first.envelope.smtputf8 and first.envelope.body_8bit and first.tls_optional
    assert not (second.envelope.smtputf8 or second.envelope.body_8bit or second.tls_optional)
    assert third.envelope.require_tls and not third.tls_optional  # RFC 8689 §4.1: the stricter word counts


def test_sweep_sets_orphans_aside_and_forgets_them_after_a_week(queue: Queue) -> None:
    queue.put(envelope(), Message(b"\r\n"), to("u@x.test"))
    queue.bodies.write("lost", Message(b"\r\n"))
    assert queue.sweep(older_than=0) == 0
    assert queue.sweep(older_than=2e12) == 1
    assert files(queue) == ["m1.eml"]
    aside = queue.bodies.folder / ORPHANS / "lost.eml"
    assert aside.exists()
    assert queue.sweep(older_than=0) == 0 and aside.exists()
    assert queue.sweep(older_than=2e12 + KEEP_ORPHANS) == 0 and not aside.exists()
    assert files(queue) == ["m1.eml"]


def test_an_id_that_is_no_file_name_is_refused(queue: Queue) -> None:
    with pytest.raises(ValueError):
        queue.put(envelope("../x"), Message(b"\r\n"), to("u@x.test"))


def test_a_large_body_is_mapped(queue: Queue) -> None:
    raw = b"A: b\r\n\r\n" + b"x" * (2 << 20)
    stem = queue.bodies.write("big", Message(raw))
    assert bytes(queue.bodies.read(stem)) == raw
