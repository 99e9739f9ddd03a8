"""Mail out of the queue into real sockets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mailguard.model.address import Address
from mailguard.model.envelope import Recipient
from mailguard.model.event import Bounced, Deferred, Delivered
from mailguard.model.reply import Reply


def direct(house: Any, **ports: int) -> None:
    house.relay["destination"] = {f"{name}.test": {"host": "127.0.0.1", "port": port} for name, port in ports.items()}


def test_found_through_dns_and_delivered(house: Any, peers: Any) -> None:
    peer = peers()
    house.relay["port"] = peer.port
    house.dns.add("x.test MX", "10 mx.x.test")
    house.dns.add("mx.x.test A", "127.0.0.1")
    house.put("u@x.test", "v@x.test")
    house.start()
    (body,) = peer.wait(1)
    assert body == b"From: a@office.test\r\nSubject: hello\r\n\r\n..dots\r\nbody\r\n"
    assert [line.split(" SIZE")[0] for line in peer.transactions[0]] == [
        "MAIL FROM:<a@office.test>",
        "RCPT TO:<u@x.test>",
        "RCPT TO:<v@x.test>",
    ]
    first, _ = house.events.wait(Delivered, 2)
    assert first.where == f"mx.x.test[127.0.0.1]:{peer.port}"
    assert list(house.queue.bodies.folder.glob("*.eml")) == []


def test_one_connection_for_many_messages(house: Any, peers: Any) -> None:
    peer = peers()
    direct(house, x=peer.port)
    house.queue_settings["first_concurrency"] = 1
    house.queue_settings["concurrency"] = 1
    for _ in range(10):
        house.put("u@x.test")
    house.start()
    peer.wait(10)
    house.events.wait(Delivered, 10)
    assert peer.connections == 1


def test_a_refusal_becomes_a_bounce_and_the_bounce_is_delivered(house: Any, peers: Any) -> None:
    peer = peers(answers={"RCPT TO:<u@x.test>": "550 5.1.1 no such user"})
    office = peers()
    direct(house, x=peer.port, office=office.port)
    house.put("u@x.test", "v@x.test", envid="abc+3Dd", ret="HDRS")
    house.start()
    (bounced,) = house.events.wait(Bounced)
    assert bounced.dsn_id and bounced.reply.code == 550
    (report,) = office.wait(1)
    assert office.transactions[0][0].startswith("MAIL FROM:<>")
    assert office.transactions[0][1] == "RCPT TO:<a@office.test>"
    for wanted in (
        b"Content-Type: multipart/report; report-type=delivery-status;",
        b"no such address. Check the spelling",
        b"Final-Recipient: rfc822; u@x.test\r\nAction: failed\r\nStatus: 5.1.1",
        b"Original-Envelope-Id: abc=d",
        b"Content-Type: text/rfc822-headers",
    ):
        assert wanted in report
    assert b"v@x.test" not in report


def test_nothing_is_reported_to_the_null_sender(house: Any, peers: Any) -> None:
    peer = peers(answers={"RCPT": "550 5.1.1 no"})
    direct(house, x=peer.port)
    house.put("u@x.test", sender=None)
    house.start()
    (bounced,) = house.events.wait(Bounced)
    assert bounced.dsn_id == ""
    assert list(house.queue.bodies.folder.glob("*.eml")) == []


@pytest.mark.parametrize(
    ("answers", "code", "words"),
    [
        ({"greeting": "421 4.3.2 busy"}, 421, "busy"),
        ({"greeting": "hello there"}, 451, "not an SMTP reply"),
        ({"EHLO": "421 4.3.2 closing"}, 421, "closing"),
        ({"EHLO": "close"}, 451, "closed"),
        ({"MAIL": "451 4.7.1 greylisted"}, 451, "greylisted"),
        ({"MAIL": "close"}, 451, "MAIL"),
        ({"RCPT": "452 4.2.2 full"}, 452, "full"),
        ({"RCPT": "close"}, 451, ""),
        ({"DATA": "451 4.3.0 no"}, 451, "no"),
        ({"DATA": "close"}, 451, ""),
        ({"dot": "451 4.3.0 later"}, 451, "later"),
        ({"dot": "close"}, 451, "end of data"),
    ],
)
def test_trouble_at_each_stage_puts_off(house: Any, peers: Any, answers: dict[str, str], code: int, words: str) -> None:
    peer = peers(answers=answers)
    direct(house, x=peer.port)
    house.put("u@x.test")
    house.start()
    (deferred,) = house.events.wait(Deferred)
    assert deferred.reply.code == code and words in deferred.reply.text


def test_a_server_that_takes_no_mail_at_all_bounces(house: Any, peers: Any) -> None:
    direct(house, x=peers(answers={"greeting": "554 5.7.1 no service here"}).port)
    house.put("u@x.test")
    house.start()
    assert "no service here" in house.events.wait(Bounced)[0].reply.text


def _hang(stage: str) -> Any:
    def handler(talk: Any) -> None:
        if stage != "greeting":
            talk.say("220 hi")
            while not talk.line().startswith(stage):
                talk.say("250 ok")
            if stage == "DATA":
                talk.say("354 go")
                talk.body()
        talk.sock.recv(1)
        talk.sock.recv(1)
        talk.sock.recv(1)

    return handler


@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL", "RCPT", "DATA"])
def test_a_hanging_peer_costs_its_timeout(house: Any, peers: Any, stage: str) -> None:
    peer = peers(handler=_hang(stage))
    direct(house, x=peer.port)
    house.put("u@x.test")
    house.start()
    (deferred,) = house.events.wait(Deferred)
    assert "in time" in deferred.reply.text


def test_a_dripping_peer_is_cut_off(house: Any, peers: Any) -> None:
    def drip(talk: Any) -> None:
        while True:
            talk.sock.sendall(b"2")
            talk.peer.changed.acquire()
            talk.peer.changed.wait(0.2)
            talk.peer.changed.release()

    peer = peers(handler=drip)
    direct(house, x=peer.port)
    house.put("u@x.test")
    house.start()
    house.events.wait(Deferred)


def test_one_dead_destination_does_not_hold_up_another(house: Any, peers: Any) -> None:
    hanging, good = peers(handler=_hang("greeting")), peers()
    direct(house, dead=hanging.port, x=good.port)
    for _ in range(50):
        house.put("u@dead.test")
    house.put("u@x.test")
    house.start()
    good.wait(1, seconds=3)
    house.events.wait(Deferred, 50)
    assert hanging.connections <= 4  # the others were put off on that evidence


def test_a_dead_mx_is_passed_over(house: Any, peers: Any) -> None:
    peer = peers()
    house.relay["port"] = peer.port
    house.dns.add("x.test MX", ["10 gone.x.test", "20 mx.x.test"])
    house.dns.add("mx.x.test A", "127.0.0.1")
    house.put("u@x.test")
    house.start()
    peer.wait(1)


def test_null_mx_bounces_and_dns_trouble_waits(house: Any) -> None:
    house.dns.add("never.test MX", "0 .")
    house.dns.add("later.test MX", TimeoutError)
    house.put("u@never.test", "u@later.test")
    house.start()
    (bounced,) = house.events.wait(Bounced)
    assert (bounced.reply.code, bounced.reply.status) == (556, "5.1.10")
    assert any(e.recipient == "u@later.test" and e.reply.status == "4.4.3" for e in house.events.wait(Deferred))


def test_success_is_reported_where_asked_and_passed_on_where_understood(house: Any, peers: Any) -> None:
    plain, dsn, office = peers(), peers(extensions=("PIPELINING", "DSN")), peers()
    direct(house, plain=plain.port, dsn=dsn.port, office=office.port)
    for domain in ("plain", "dsn"):
        address = Address.parse(f"u@{domain}.test")
        house.put(Recipient(address, frozenset({"SUCCESS"}), f"rfc822;u@{domain}.test"), ret="HDRS", envid="q")
    house.start()
    (report,) = office.wait(1)
    assert b"Action: relayed" in report and b"Original-Recipient: rfc822;u@plain.test" in report
    dsn.wait(1)
    assert dsn.transactions[0] == [
        "MAIL FROM:<a@office.test> RET=HDRS ENVID=q",
        "RCPT TO:<u@dsn.test> NOTIFY=SUCCESS ORCPT=rfc822;u@dsn.test",
    ]
    assert len(office.messages) == 1


def test_notify_never_is_obeyed(house: Any, peers: Any) -> None:
    peer = peers(answers={"RCPT": "550 5.1.1 no"})
    direct(house, x=peer.port)
    house.put(Recipient(Address.parse("u@x.test"), frozenset({"NEVER"})))
    house.start()
    assert house.events.wait(Bounced)[0].dsn_id == ""


@pytest.mark.parametrize(
    ("more", "raw", "status"),
    [
        ({}, b"A: b\r\n\r\n" + b"x" * 2000, "5.3.4"),
        ({}, "A: b\r\n\r\nä\r\n".encode(), "5.6.3"),
        ({"smtputf8": True}, "Subject: ä\r\n\r\n".encode(), "5.6.7"),
        ({"require_tls": True}, b"A: b\r\n\r\n", "4.7.5"),
    ],
)
def test_what_a_next_hop_cannot_take_is_not_sent(house: Any, peers: Any, more: Any, raw: bytes, status: str) -> None:
    peer = peers(extensions=("SIZE 1000",))
    direct(house, x=peer.port)
    house.put("u@x.test", raw=raw, **more)
    house.start()
    (event,) = house.events.wait(Deferred if status.startswith("4") else Bounced)
    assert event.reply.status == status
    assert peer.messages == []


def test_a_server_that_is_ourselves_is_a_loop(house: Any, peers: Any) -> None:
    peer = peers(name="mail.office.test")
    direct(house, x=peer.port)
    house.put("u@x.test")
    house.start()
    assert house.events.wait(Bounced)[0].reply.status == "5.4.6"


def test_what_is_local_goes_to_the_local_hand(house: Any) -> None:
    class Hand:
        def is_local(self, domain: str) -> bool:
            return domain == "office.test"

        def deliver(self, envelope: Any, message: Any, recipients: Sequence[Recipient]) -> Sequence[Reply]:
            return [Reply.of(250, "2.0.0", "in the box")] * len(recipients)

    house.local = Hand()
    house.put("b@office.test")
    house.start()
    assert house.events.wait(Delivered)[0].where == "local"


def test_give_up_after_the_time_set_for_the_destination(house: Any, peers: Any) -> None:
    peer = peers(answers={"MAIL": "451 4.7.1 not now"})
    direct(house, x=peer.port)
    house.relay["destination"]["x.test"]["give_up"] = 0.001
    house.put("u@x.test")
    house.start()
    assert "not now" in house.events.wait(Bounced)[0].reply.text


def test_a_delay_is_told_once(house: Any, peers: Any) -> None:
    peer, office = peers(answers={"MAIL": "451 4.7.1 not now"}), peers()
    direct(house, x=peer.port, office=office.port)
    house.queue_settings |= {"delay_notice": 0.001, "first_retry": 0.5, "growth": 1}
    house.put("u@x.test")
    house.start()
    house.events.wait(Deferred, 3)
    (report,) = office.wait(1)
    assert b"Action: delayed" in report and b"Will-Retry-Until:" in report
    assert len(office.messages) == 1
