"""Delivery status notifications as RFC 3464, RFC 3461 and RFC 6533 have them."""

from __future__ import annotations

from typing import Any

import pytest

from mailguard.delivery.bounce import Fate, Reporter
from mailguard.delivery.queue_entry import QueuedMessage, QueuedRecipient
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.model.reply import Reply

REFUSED = Reply.of(550, "5.1.1", "no such user")
ORIGINAL = "Subject: Grüße\r\n\r\nthe body\r\n".encode()


def report(
    *fates: Fate, sender: str = "ann@office.test", size: int = 100, **more: Any
) -> tuple[Envelope, str, Recipient]:
    envelope = Envelope("m1", Address.parse(sender), tuple(f.recipient.recipient for f in fates), **more)
    queued = QueuedMessage("m1", envelope, 0.0, size, False)
    sent, message, to = Reporter("mx.test").report("r1", queued, Message(ORIGINAL), fates, 60.0)
    return sent, bytes(message).decode(), to


def fate(address: str, *, action: str = "failed", orcpt: str = "") -> Fate:
    recipient = Recipient(Address.parse(address), orcpt=orcpt)
    return Fate(QueuedRecipient(1, recipient, "x.test"), action, REFUSED, host="peer.test[192.0.2.1]")


def test_each_recipient_has_its_group_behind_a_blank_line() -> None:
    sent, text, to = report(fate("a@x.test", orcpt="rfc822;a+2Bb@x.test"), fate("b@x.test"), envid="e+3D1")
    assert sent.mail_from is None and str(to.address) == "ann@office.test"
    assert "Reporting-MTA: dns; mx.test\r\nOriginal-Envelope-Id: e=1\r\nArrival-Date: " in text
    first = "\r\n\r\nOriginal-Recipient: rfc822;a+b@x.test\r\nFinal-Recipient: rfc822; a@x.test\r\nAction: failed\r\n"
    assert f"{first}Status: 5.1.1\r\nRemote-MTA: dns; peer.test\r\n" in text
    assert "\r\n\r\nFinal-Recipient: rfc822; b@x.test\r\nAction: failed\r\n" in text
    assert "Content-Type: message/rfc822\r\n" in text and "the body" in text


@pytest.mark.parametrize(
    ("action", "more", "whole"),
    [
        ("failed", {}, True),
        ("failed", {"size": 60_000}, False),
        ("failed", {"size": 60_000, "ret": "FULL"}, True),
        ("failed", {"ret": "HDRS"}, False),
        ("failed", {"require_tls": True}, False),
        ("delayed", {"ret": "FULL"}, False),
        ("delivered", {"ret": "FULL"}, False),
    ],
)
def test_the_message_comes_back_whole_only_where_it_may(action: str, more: dict[str, Any], whole: bool) -> None:
    _, text, _ = report(fate("a@x.test", action=action), **more)
    assert ("Content-Type: message/rfc822\r\n" in text) == whole == ("the body" in text)
    assert ("Content-Type: text/rfc822-headers\r\n" in text) != whole and "Subject: Grüße" in text


@pytest.mark.parametrize("who", ["recipient", "sender"])
def test_addresses_beyond_ascii_are_told_in_global_parts(who: str) -> None:
    address, sender = ("ö@x.test", "ann@office.test") if who == "recipient" else ("a@x.test", "änn@office.test")
    sent, text, _ = report(fate(address), sender=sender)
    assert "Content-Type: message/global-delivery-status\r\nContent-Transfer-Encoding" in text or who == "sender"
    assert "Content-Type: message/global-delivery-status\r\n" in text and "Content-Type: message/global\r\n" in text
    assert ("Final-Recipient: utf-8; ö@x.test" in text) == (who == "recipient")
    assert sent.smtputf8 == (who == "sender") and sent.body_8bit
    _, text, _ = report(fate(address, action="delayed"), sender=sender)
    assert "Content-Type: message/global-headers\r\n" in text


def test_nobody_is_told_that_a_report_failed() -> None:
    queued = QueuedMessage("m1", Envelope("m1", None), 0.0, 1, False)
    with pytest.raises(ValueError, match="<>"):
        Reporter("mx.test").report("r1", queued, Message(ORIGINAL), [fate("a@x.test")], 0.0)
