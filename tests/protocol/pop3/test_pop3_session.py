"""POP3 sessions without a socket: dialogues, random cuts, STLS injection, hostile lines."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.protocol.pop3.event import Offer, Password, Quit, Retrieve, SaslBegin, SaslResponse, StartTls, State
from mailguard.protocol.pop3.maildrop import Entry, unique_id
from mailguard.protocol.pop3.response import stuffed, top
from mailguard.protocol.pop3.server import Pop3Session
from mailguard.protocol.wire import NEED_DATA

DIALOGUES = sorted((Path(__file__).parents[2] / "dialogues" / "pop3").glob("*.txt"))
MESSAGES = {
    10: b"Subject: dots\r\n\r\n.one\r\ntwo\r\n.\r\n",
    11: b"Subject: second\r\n\r\nb\r\n",
    12: b"Subject: third.\r\n\r\nc\r\n",
}
ENTRIES = [
    Entry(10, 31, unique_id(10, 99)),
    Entry(11, 22, "imported"),
    Entry(12, 22, unique_id(12, 99)),
]
OFFER = Offer(("PLAIN",), cleartext=True, stls=True)


class Driver:
    """Does what server/pop3.py does, on a dictionary."""

    def __init__(self, offer: Offer = OFFER) -> None:
        self.session = Pop3Session(offer)
        self.sent = self.session.take_output()
        self.deleted: list[int] | None = None
        self.tls = 0

    def feed(self, data: bytes) -> None:
        self.session.receive_data(data)
        while (event := self.session.next_event()) is not NEED_DATA:
            self.answer(event)
        self.sent += self.session.take_output()

    def answer(self, event: object) -> None:
        match event:
            case Password(user, password):
                self.sign_in(user, password)
            case SaslBegin(_, None):
                self.session.challenge(b"")
            case SaslBegin(_, bytes(response)) | SaslResponse(response):
                _, user, password = response.decode().split("\0")
                self.sign_in(user, password)
            case StartTls():
                self.tls += 1
                self.session.tls_started(Offer(("PLAIN",), cleartext=True))
            case Retrieve(_, entry, _):
                self.session.message(event, MESSAGES[entry.uid])
            case Quit(deleted):
                self.deleted = deleted
                self.session.closed()

    def sign_in(self, user: str, password: str) -> None:
        if password != "two words":
            self.session.refused("wrong name or password")
        elif user == "busy":
            self.session.refused("another session has the maildrop", "IN-USE")
        else:
            self.session.opened(ENTRIES)


def read_dialogue(path: Path) -> tuple[bytes, bytes, list[int] | None]:
    client, server, deleted = b"", b"", None
    for line in path.read_text().splitlines():
        kind, _, rest = line.partition(":")
        if kind == "C":
            client += rest.removeprefix(" ").encode() + b"\r\n"
        elif kind == "S":
            server += rest.removeprefix(" ").encode() + b"\r\n"
        elif kind == "deleted":
            deleted = [int(n) for n in rest.split()]
    return client, server, deleted


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda p: p.stem)
def test_dialogue_whole_and_octet_by_octet(path: Path) -> None:
    client, server, deleted = read_dialogue(path)
    whole, slow = Driver(), Driver()
    whole.feed(client)
    for n in range(len(client)):
        slow.feed(client[n : n + 1])
    assert whole.sent.decode() == server.decode()
    assert slow.sent == server
    assert whole.deleted == slow.deleted == deleted


@given(st.data())
def test_random_cuts_change_nothing(data: st.DataObject) -> None:
    client, server, _ = read_dialogue(DIALOGUES[data.draw(st.integers(0, len(DIALOGUES) - 1))])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(client)), max_size=20)))
    driver = Driver()
    for start, end in zip([0, *cuts], [*cuts, len(client)], strict=True):
        driver.feed(client[start:end])
    assert driver.sent == server


@given(st.binary(max_size=3000))
def test_nothing_escapes_and_nothing_grows(data: bytes) -> None:
    driver = Driver()
    driver.feed(data)
    driver.feed(b"\r\n")
    assert len(driver.session._buffer) <= 3100


def test_what_follows_stls_in_the_clear_is_forgotten() -> None:
    driver = Driver()
    driver.feed(b"STLS\r\nUSER injected\r\nPASS two words\r\n")
    assert driver.tls == 1
    assert driver.session.state is State.AUTHORIZATION
    driver.feed(b"PASS two words\r\n")
    assert driver.sent.endswith(b"-ERR USER comes first\r\n")
    driver.feed(b"STLS\r\n")
    assert driver.sent.endswith(b"-ERR TLS cannot be started here\r\n")


def test_no_password_over_an_open_line() -> None:
    driver = Driver(Offer(stls=True))
    driver.feed(b"USER ann\r\nAUTH PLAIN AGEAYg==\r\nCAPA\r\n")
    assert b"-ERR use STLS first" in driver.sent
    assert b"not offered here" in driver.sent
    assert b"\r\nUSER" not in driver.sent and b"SASL" not in driver.sent


def test_initial_response_and_bad_base64() -> None:
    driver = Driver()
    driver.feed(b"AUTH PLAIN !!!\r\n")
    assert driver.sent.endswith(b"-ERR that is not base64\r\n")
    driver.feed(b"AUTH PLAIN " + base64.b64encode(b"\0ann\0two words") + b"\r\n")
    assert driver.session.state is State.TRANSACTION


def test_too_many_errors_end_the_session() -> None:
    driver = Driver()
    driver.feed(b"JUNK\r\n" * 20)
    assert driver.session.state is State.CLOSED
    assert driver.sent.count(b"-ERR") == 11


def test_errors_between_commands_that_succeed_do_not_end_a_session_that_deletes() -> None:
    driver = Driver()
    driver.feed(
        b"USER ann\r\nPASS two words\r\nDELE 1\r\n" + b"RETR 1\r\nNOOP\r\nRETR 1\r\nRETR 2\r\n" * 20 + b"QUIT\r\n"
    )
    assert driver.deleted == [10]


def test_messages_that_are_gone_are_no_mistake_of_the_client_s() -> None:
    session = Pop3Session(OFFER)
    session.opened(ENTRIES)
    for _ in range(20):
        session.receive_data(b"RETR 2\r\n")
        assert isinstance(session.next_event(), Retrieve)
        session.failed("gone")
    assert session.state is State.TRANSACTION


def test_guesses_at_a_password_end_the_session_whatever_stands_between_them() -> None:
    driver = Driver()
    driver.feed(b"USER ann\r\nPASS wrong\r\nCAPA\r\n" * 20)
    assert driver.session.state is State.CLOSED


def test_a_long_line_costs_one_error_and_no_memory() -> None:
    driver = Driver()
    for _ in range(100):
        driver.feed(b"A" * 5000)
    driver.feed(b"\r\nCAPA\r\n")
    assert driver.sent.count(b"-ERR") == 1
    assert driver.sent.endswith(b".\r\n")


@given(st.binary(max_size=200))
def test_stuffing_can_be_undone(body: bytes) -> None:
    raw = body.replace(b"\r", b"").replace(b"\n", b"\r\n")
    sent = stuffed(raw)
    assert sent.endswith(b".\r\n")
    lines = sent[:-3].split(b"\r\n")
    unstuffed = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines)
    assert unstuffed == (raw if not raw or raw.endswith(b"\r\n") else raw + b"\r\n")
    assert b"\r\n.\r\n" not in sent[:-5] or raw == b""


def test_top_of_a_message_without_body_or_header() -> None:
    assert top(b"A: b\r\n", 3) == b"A: b\r\n"
    assert top(b"\r\nbody\r\nmore\r\n", 1) == b"\r\nbody\r\n"
    assert top(b"A: b\r\n\r\none", 5) == b"A: b\r\n\r\none"
