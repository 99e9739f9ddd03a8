"""The client state machine against scripted servers, no socket in sight."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.protocol.smtp.client import Answered, Finished, GoAhead, SmtpClient, Stage, Transaction
from mailguard.protocol.smtp.dotstuff import dot_stuffed
from mailguard.protocol.wire import NEED_DATA, ProtocolError


def make(*extensions: str) -> SmtpClient:
    client = SmtpClient()
    client.receive_data(b"220 mx.x.test ESMTP\r\n")
    assert isinstance(client.next_event(), Answered)
    client.hello("me.test")
    assert client.data_to_send() == b"EHLO me.test\r\n"
    lines = ["mx.x.test", *extensions]
    for n, line in enumerate(lines):
        client.receive_data(f"250{' ' if n == len(lines) - 1 else '-'}{line}\r\n".encode())
    assert isinstance(client.next_event(), Answered)
    return client


def transaction(*rcpt: str, **more) -> Transaction:
    envelope = Envelope("id", Address.parse("a@office.test"), **more)
    return Transaction(envelope, tuple(Recipient(Address.parse(r)) for r in rcpt or ("u@x.test",)), 100)


def feed(client: SmtpClient, text: str):
    client.receive_data(text.replace("\n", "\r\n").encode())
    return client.next_event()


def codes(event) -> list[int]:
    assert isinstance(event, Finished)
    return [r.code for r in event.replies]


def test_pipelined_transaction() -> None:
    client = make("PIPELINING", "SIZE 1000", "8BITMIME", "DSN")
    client.begin(transaction("u@x.test", "v@x.test", body_8bit=True, ret="HDRS", envid="q1"))
    assert client.data_to_send() == (
        b"MAIL FROM:<a@office.test> SIZE=100 BODY=8BITMIME RET=HDRS ENVID=q1\r\n"
        b"RCPT TO:<u@x.test>\r\nRCPT TO:<v@x.test>\r\nDATA\r\n"
    )
    assert isinstance(feed(client, "250 ok\n550 5.1.1 no\n250 ok\n354 go\n"), GoAhead)
    assert client.stage is Stage.BODY
    client.body_sent()
    event = feed(client, "250 2.0.0 queued\n")
    assert codes(event) == [550, 250]
    assert event.replies[0].status == "5.1.1" and event.replies[0].text == "no"


def test_one_command_at_a_time_without_pipelining() -> None:
    client = make()
    client.begin(transaction("u@x.test", "v@x.test", body_8bit=True, smtputf8=True, ret="FULL"))
    assert client.data_to_send() == b"MAIL FROM:<a@office.test>\r\n"
    assert feed(client, "250 ok\n") is NEED_DATA
    assert client.data_to_send() == b"RCPT TO:<u@x.test>\r\n"
    assert client.data_to_send() == b""
    assert feed(client, "451 4.2.1 later\n") is NEED_DATA
    assert client.data_to_send() == b"RCPT TO:<v@x.test>\r\n"
    assert feed(client, "250 ok\n") is NEED_DATA
    assert client.data_to_send() == b"DATA\r\n"
    assert isinstance(feed(client, "354 go\n"), GoAhead)
    client.body_sent()
    assert codes(feed(client, "250 ok\n")) == [451, 250]


@pytest.mark.parametrize("extension", ["PIPELINING", "8BITMIME"])
def test_a_refused_sender_is_every_recipients_answer(extension: str) -> None:
    client = make(extension)
    client.begin(transaction("u@x.test", "v@x.test"))
    client.data_to_send()
    rest = "503 no\n503 no\n503 no\n" if extension == "PIPELINING" else ""
    assert codes(feed(client, "550 5.7.1 not you\n" + rest)) == [550, 550]


def test_everybody_refused_but_data_taken_ends_with_a_lone_dot() -> None:
    client = make("PIPELINING")
    client.begin(transaction())
    client.data_to_send()
    assert isinstance(feed(client, "250 ok\n550 no\n354 go\n"), GoAhead)
    assert client.wants_only_the_dot
    client.body_sent()
    assert codes(feed(client, "250 got nothing\n")) == [550]


def test_421_in_the_middle_answers_all_that_is_open() -> None:
    client = make("PIPELINING")
    client.begin(transaction("u@x.test", "v@x.test", "w@x.test"))
    client.data_to_send()
    assert codes(feed(client, "250 ok\n550 no\n421 4.3.2 bye\n")) == [550, 421, 421]
    assert client.closing


def test_250_to_data_is_no_delivery() -> None:
    client = make("PIPELINING")
    client.begin(transaction())
    client.data_to_send()
    assert codes(feed(client, "250 ok\n250 ok\n250 done already\n")) == [451]
    assert client.closing


@pytest.mark.parametrize(
    "nonsense", ["hello\n", "999 x\n", "250-a\n251 b\n", "25\n", "\n", "150 x\n", "250?x\n", "2" * 5000]
)
def test_nonsense_is_a_protocol_error(nonsense: str) -> None:
    client = SmtpClient()
    with pytest.raises(ProtocolError) as error:
        feed(client, nonsense)
    assert isinstance(error.value, ProtocolError)


def test_an_endless_reply_is_a_protocol_error() -> None:
    client = SmtpClient()
    with pytest.raises(ProtocolError):
        feed(client, "220-x\n" * 300)


def test_a_reply_nobody_asked_for() -> None:
    client = make()
    with pytest.raises(ProtocolError):
        feed(client, "250 surprise\n")


def test_a_closed_connection() -> None:
    with pytest.raises(ProtocolError):
        SmtpClient().receive_data(b"")


def test_starttls_forgets_what_was_said_before() -> None:
    client = make("STARTTLS", "AUTH PLAIN LOGIN", "SIZE 10")
    assert client.max_size == 10 and client.auth_mechanisms == {"PLAIN", "LOGIN"}
    client.starttls()
    client.data_to_send()
    client.receive_data(b"220 go\r\n250 injected\r\n")
    assert isinstance(client.next_event(), Answered)
    client.tls_started()
    assert client.extensions == {} and client.next_event() is NEED_DATA


def test_auth_lines() -> None:
    client = make("AUTH=PLAIN LOGIN")
    client.auth_plain("u", "p")
    assert client.data_to_send() == b"AUTH PLAIN AHUAcA==\r\n"
    event = feed(client, "535 5.7.8 no\n")
    assert isinstance(event, Answered) and event.stage is Stage.AUTH and event.reply.status == "5.7.8"


@given(st.lists(st.integers(1, 40), max_size=12))
def test_random_cuts_change_nothing(cuts: list[int]) -> None:
    client = make("PIPELINING")
    client.begin(transaction("u@x.test", "v@x.test"))
    client.data_to_send()
    said = b"250 2.1.0 ok\r\n250-2.1.5 a\r\n250 2.1.5 b\r\n550 5.1.1 no\r\n354 go\r\n"
    events = []
    for cut in [*cuts, len(said)]:
        client.receive_data(said[:cut] or b" ") if said[:cut] else None
        said = said[cut:]
        event = client.next_event()
        if event is not NEED_DATA:
            events.append(event)
    assert events == [GoAhead()]


@given(st.binary(max_size=60).map(lambda b: bytes(b"\r\n.ax"[c % 5] for c in b)), st.lists(st.integers(0, 60)))
def test_dot_stuffing_keeps_lines_and_never_ends_early(raw: bytes, cuts: list[int]) -> None:
    bounds = sorted({0, len(raw), *(c for c in cuts if c < len(raw))})
    chunks = [raw[a:b] for a, b in itertools.pairwise(bounds)]
    sent = b"".join(dot_stuffed(chunks))
    assert sent.endswith(b".\r\n") and (sent == b".\r\n" or sent.endswith(b"\r\n.\r\n"))
    body = sent[:-3]
    assert b"\r\n.\r\n" not in b"\r\n" + body
    assert body.replace(b"\r\n", b"").count(b"\r") == body.replace(b"\r\n", b"").count(b"\n") == 0
    undone = (b"\r\n" + body).replace(b"\r\n..", b"\r\n.")[2:]
    want = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
    assert undone in (want, want + b"\r\n")
