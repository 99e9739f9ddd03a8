"""What aliases send on: the reverse path, the marker, the duty to report; and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailguard.auth.accounts import Directory
from mailguard.auth.accountsfile import AccountsFile
from mailguard.delivery.forward import Forwarder, Rewriter, srs_secret
from mailguard.delivery.local import LocalDelivery
from mailguard.delivery.queue import Queue
from mailguard.delivery.router import Route, Router
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.state.database import Database, metadata
from mailguard.state.settings import StateSettings

RAW = b"From: ann@example.net\r\nSubject: hi\r\n\r\nbody\r\n"
ALIAS = Address.parse("sales@office.test")
OUT = Address.parse("partner@elsewhere.test")


class Ours:
    def __init__(self, folder: Path, *, to: tuple[str, ...] = (str(OUT),)) -> None:
        self.database = Database(StateSettings(), folder)
        metadata.create_all(self.database.engine)
        self.queue = Queue(self.database, folder / "queue")
        self.rewriter = Rewriter(srs_secret(self.database), ["office.test", "second.test"])
        self.forwarder = Forwarder(self.queue, self.rewriter)
        file = AccountsFile.model_validate(
            {"domain": [{"name": "office.test"}], "alias": [{"address": str(ALIAS), "to": to}]}
        )
        self.router = Router(Directory.build(file, folder), self.rewriter)

    def only(self, destination: str = "elsewhere.test"):  # type: ignore[no-untyped-def]
        (work,) = self.queue.claim(destination, limit=9, lease_seconds=60)
        return work


@pytest.fixture
def ours(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Ours(tmp_path)
    yield made
    made.database.close()


def test_it_leaves_with_a_reverse_path_of_ours_and_its_body_as_it_was(ours: Ours) -> None:
    envelope = Envelope("m1", Address.parse("ann@example.net"), ret="HDRS", envid="e1")
    ours.forwarder.send_on(envelope, Message(RAW), Recipient(ALIAS, frozenset({"SUCCESS"})), (OUT,))
    work = ours.only()
    sender = work.message.envelope.mail_from
    assert (
        sender.domain == "office.test"
        and sender.local.startswith("SRS0=")
        and sender.local.endswith("=example.net=ann")
    )
    assert (work.message.envelope.ret, work.message.envelope.envid) == ("HDRS", "e1")
    (recipient,) = work.recipients
    assert recipient.recipient == Recipient(OUT, frozenset({"SUCCESS"}), "rfc822;sales@office.test")
    assert bytes(ours.queue.bodies.read(work.message.id)) == b"Delivered-To: sales@office.test\r\n" + RAW


def test_our_own_senders_and_reports_keep_theirs(ours: Ours) -> None:
    for ident, sender in (("m1", None), ("m2", Address.parse("me@second.test"))):
        ours.forwarder.send_on(Envelope(ident, sender), Message(RAW), Recipient(ALIAS), (OUT,))
        assert ours.only().message.envelope.mail_from == sender


def test_many_behind_one_alias_report_no_success(ours: Ours) -> None:
    two = (OUT, Address.parse("other@elsewhere.test"))
    asked = Recipient(ALIAS, frozenset({"SUCCESS", "FAILURE"}), "rfc822;x+2By@a.test")
    ours.forwarder.send_on(Envelope("m1", None), Message(RAW), asked, two)
    ours.forwarder.send_on(Envelope("m2", None), Message(RAW), Recipient(ALIAS, frozenset({"SUCCESS"})), two)
    first, second = ours.queue.claim("elsewhere.test", limit=9, lease_seconds=60)
    assert {r.recipient.notify for r in first.recipients} == {frozenset({"FAILURE"})}
    assert {r.recipient.orcpt for r in first.recipients} == {"rfc822;x+2By@a.test"}
    assert {r.recipient.notify for r in second.recipients} == {frozenset({"NEVER"})}


def test_the_marker_is_known_again(ours: Ours) -> None:
    message = Message(b"Delivered-To: Sales@OFFICE.test\r\n" + RAW)
    assert ours.forwarder.loops(message, ALIAS)
    assert not ours.forwarder.loops(message, Address.parse("info@office.test"))


def test_a_report_finds_its_way_back_and_a_forged_address_does_not(ours: Ours) -> None:
    sender = Address.parse("ann@example.net")
    back = ours.rewriter.forward(sender, "office.test")
    assert back is not None
    assert ours.router.route(back, may_relay=False) == Route(remote=(sender,))
    forged = Address("SRS0=AAAA=BB=example.net=ann", "office.test")
    assert str(ours.router.route(forged, may_relay=False)).startswith("550 5.1.1")


def test_the_secret_is_made_once(ours: Ours) -> None:
    assert len(srs_secret(ours.database)) == 32
    assert srs_secret(ours.database) == srs_secret(ours.database)


def test_what_the_queue_delivers_to_an_alias_is_sent_on_or_told_to_loop(ours: Ours) -> None:
    local = LocalDelivery(ours.router, lambda account: None, None, ours.forwarder)  # type: ignore[arg-type, return-value]
    envelope = Envelope("m1", Address.parse("ann@example.net"))
    (reply,) = local.deliver(envelope, Message(RAW), [Recipient(ALIAS)])
    assert reply.ok and ours.only().recipients[0].recipient.address == OUT
    (reply,) = local.deliver(envelope, Message(b"Delivered-To: sales@office.test\r\n" + RAW), [Recipient(ALIAS)])
    assert str(reply) == "554 5.4.6 the message has been sent on from here before: a mail loop"
