"""The runner's own conduct: bounded rounds, missing bodies, routes that have changed."""

from __future__ import annotations

import errno
import itertools
import threading
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog

from mailguard.delivery.nexthop import Routes
from mailguard.delivery.outbound import build_relay, build_runner
from mailguard.delivery.queue import Queue
from mailguard.delivery.relay_settings import QueueSettings, RelaySettings
from mailguard.model.event import Bounced, Deferred, Delivered

CONCURRENCY = 5


def runner(house: Any) -> Any:
    settings = QueueSettings(concurrency=CONCURRENCY, first_concurrency=CONCURRENCY)
    relay = build_relay(
        RelaySettings(), settings, resolver=house.dns, database=house.database, hostname="mail.office.test"
    )
    return build_runner(
        house.queue,
        relay,
        settings,
        hostname="mail.office.test",
        emit=house.events,
        log=structlog.get_logger(),
        new_id=lambda: "x",
    )


def test_one_look_starts_no_more_workers_than_a_destination_may_have(house: Any) -> None:
    house.put("u@x.test")
    claims = itertools.count()
    house.queue.claim = lambda *args, **more: [][: next(claims)]  # due, and yet nothing to be had
    run = runner(house)
    run._dispatch()
    for thread in list(run._threads):
        thread.join(10)
    assert 1 <= next(claims) <= CONCURRENCY


def test_none_is_started_once_the_end_has_begun(house: Any) -> None:
    house.put("u@x.test")
    run = runner(house)
    run._stop.set()
    assert run._dispatch() == 0.0
    assert not run._threads


def test_a_missing_body_is_looked_for_three_times_and_then_told(house: Any, peers: Any) -> None:
    office = peers()
    house.relay["destination"] = {"office.test": {"host": "127.0.0.1", "port": office.port}}
    ident = house.put("u@x.test")
    house.queue.bodies.path(ident).unlink()
    with house.database.write() as connection:
        connection.exec_driver_sql("UPDATE queue_recipient SET attempts = 2")
    house.start()
    assert "our copy of the message is missing" in house.events.wait(Deferred)[0].reply.text
    with house.database.write() as connection:
        connection.exec_driver_sql("UPDATE queue_recipient SET due_at = 1")
    house.queue.bodies.ring()
    assert "please send it again" in house.events.wait(Bounced)[0].reply.text
    (report,) = office.wait(1)
    assert b"Final-Recipient: rfc822; u@x.test" in report and b"our copy of the message has been lost" in report


def test_what_waits_follows_new_routes_but_not_what_was_rerouted_by_hand(house: Any, peers: Any) -> None:
    old, new = peers(), peers()
    house.put("u@x.test", "v@y.test")
    with house.database.write() as connection:
        connection.exec_driver_sql(
            f"UPDATE queue_recipient SET destination = '[127.0.0.1]:{old.port}', rerouted = 1 WHERE domain = 'y.test'"
        )
    house.relay["route"] = ({"host": "127.0.0.1", "port": new.port, "tls": "may"},)
    house.queue.destination = Routes(RelaySettings(**house.relay)).destination
    house.start()
    house.events.wait(Delivered, 2)
    assert new.transactions[0][1].startswith("RCPT TO:<u@x.test>")
    assert old.transactions[0][1].startswith("RCPT TO:<v@y.test>")


def test_a_full_disk_at_settling_repeats_the_commit_and_not_the_delivery(house: Any, peers: Any) -> None:
    peer = peers()
    house.relay["destination"] = {"x.test": {"host": "127.0.0.1", "port": peer.port}}
    house.put("u@x.test")
    settle, failures = house.queue.settle, itertools.count()

    def full(*args: Any) -> None:
        if next(failures) == 0:
            raise sa.exc.OperationalError("COMMIT", {}, OSError(errno.ENOSPC, "No space left on device"))
        settle(*args)

    house.queue.settle = full
    house.start()
    house.events.wait(Delivered)
    assert len(peer.messages) == 1 and next(failures) == 2
    assert not house.queue.due(9e12)


def test_a_report_that_cannot_be_written_keeps_its_message(house: Any, peers: Any) -> None:
    peer = peers(answers={"RCPT": "550 5.1.1 no such user"})
    house.relay["destination"] = {name: {"host": "127.0.0.1", "port": peer.port} for name in ("x.test", "office.test")}
    ident = house.put("u@x.test")

    def full(*args: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    prepare, house.queue.prepare = house.queue.prepare, full
    house.start()
    assert "our disk is full" in house.events.wait(Deferred)[0].reply.text
    assert not house.events.of(Bounced) and house.queue.bodies.path(ident).exists()
    house.queue.prepare = prepare
    with house.database.write() as connection:
        connection.exec_driver_sql("UPDATE queue_recipient SET due_at = 1")
    house.queue.bodies.ring()
    assert house.events.wait(Bounced)[0].recipient == "u@x.test"


def test_two_runners_never_send_the_same_recipient_twice(house: Any, peers: Any, tmp_path: Path) -> None:
    peer = peers()
    house.relay["destination"] = {"x.test": {"host": "127.0.0.1", "port": peer.port}}
    for n in range(200):
        house.put("u@x.test", raw=b"Subject: number %d.\r\n\r\n" % n)
    other = Queue(house.database, tmp_path / "queue", node="another machine")
    first = house.queue
    house.start()
    second, stop = threading.Event(), house.stop
    thread = threading.Thread(target=second_runner(house, other).run, args=(second,))
    thread.start()
    house.events.wait(Delivered, 200, 60)
    second.set()
    stop.set()
    thread.join(20)
    assert first is not other and len(peer.messages) == 200
    assert len({raw.split(b"\r\n")[0] for raw in peer.messages}) == 200


def second_runner(house: Any, queue: Queue) -> Any:
    settings = QueueSettings()
    relay = build_relay(
        RelaySettings(**house.relay), settings, resolver=house.dns, database=house.database, hostname="mail.office.test"
    )
    return build_runner(
        queue,
        relay,
        settings,
        hostname="mail.office.test",
        emit=house.events,
        log=structlog.get_logger(),
        new_id=lambda: "y",
    )
