"""Trace fields: what Received tells, and when a message has been here before."""

from __future__ import annotations

import pytest

from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.model.session import Role, Session, TlsInfo
from mailguard.model.trace import hops, loops_at, received, with_keyword

TLS = TlsInfo("TLSv1.3", "TLS_AES_256_GCM_SHA384")
ANN = Recipient(Address.parse("ann@office.test"))


def session(*, esmtp: bool = True, tls: bool = False, user: str = "", role: Role = Role.MX, **more: str) -> Session:
    values = {"peer_ip": "192.0.2.1", "helo": "c.test", **more}
    return Session("s1", role=role, esmtp=esmtp, tls=TLS if tls else None, user=user, **values)


@pytest.mark.parametrize(
    ("esmtp", "tls", "user", "lmtp", "utf8", "keyword"),
    [
        (False, False, "", False, False, "SMTP"),
        (True, False, "", False, False, "ESMTP"),
        (True, True, "", False, False, "ESMTPS"),
        (True, False, "u", False, False, "ESMTPA"),
        (True, True, "u", False, False, "ESMTPSA"),
        (True, False, "", False, True, "UTF8SMTP"),
        (True, True, "", False, True, "UTF8SMTPS"),
        (True, True, "u", False, True, "UTF8SMTPSA"),
        (True, False, "", True, False, "LMTP"),
        (True, True, "", True, False, "LMTPS"),
        (True, False, "", True, True, "UTF8LMTP"),
        (True, True, "", True, True, "UTF8LMTPS"),
    ],
)
def test_the_protocol_has_its_registered_name(
    esmtp: bool, tls: bool, user: str, lmtp: bool, utf8: bool, keyword: str
) -> None:
    made = session(esmtp=esmtp, tls=tls, user=user, role=Role.LMTP if lmtp else Role.MX)
    assert with_keyword(made, smtputf8=utf8) == keyword


@pytest.mark.parametrize(
    ("made", "client"),
    [
        (session(), "from c.test ([192.0.2.1])"),
        (session(peer_ip="2001:db8::1", helo=""), "from unknown ([IPv6:2001:db8::1])"),
        (session(ptr="host.test"), "from c.test (host.test [192.0.2.1])"),
        (session(user="u@office.test"), "from mx.test"),
    ],
)
def test_the_client_is_named_unless_it_is_one_of_our_users(made: Session, client: str) -> None:
    field = received(made, Envelope("m1", None, (ANN,)), "mx.test", 0)
    assert field.startswith(f"Received: {client}\r\n\tby mx.test with ESMTP".encode())
    assert field.endswith(b" id m1\r\n\tfor <ann@office.test>;\r\n\tThu, 01 Jan 1970 00:00:00 +0000\r\n")


def test_several_recipients_do_not_learn_of_each_other() -> None:
    field = received(session(), Envelope("m1", None, (ANN, ANN)), "mx.test", 0)
    assert b"for <" not in field


def test_tls_is_told_with_its_version_and_cipher() -> None:
    field = received(session(tls=True), Envelope("m1", None, (ANN,)), "mx.test", 0)
    assert b"with ESMTPS (TLSv1.3 TLS_AES_256_GCM_SHA384) id m1" in field


def test_loops_are_seen_whatever_the_case() -> None:
    message = Message(b"received: a\r\nReceived: b\r\nDELIVERED-TO: Ann@Office.Test\r\nX-Received: c\r\n\r\n")
    assert hops(message) == 2
    assert loops_at(message, "ann@office.test") and not loops_at(message, "nn@office.test")
