"""Out-of-office replies: who gets one, what it says, how often."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from mailguard.auth.accounts import Account
from mailguard.delivery.vacation import AGAIN, Vacation, Vacations, reply, why_not
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope
from mailguard.model.message import Message
from mailguard.state.database import Database, metadata
from mailguard.state.settings import StateSettings
from mailguard.testing import FakeClock

ANN = Account(
    Address.parse("ann@office.test"),
    "Ann Ünder",
    send_as=frozenset({"ann@office.test", "a@office.test", "*@office.test"}),
)
PERSON = Address.parse("bea@elsewhere.test")


def envelope(sender: str = "bea@elsewhere.test") -> Envelope:
    return Envelope("m1", Address.parse(sender) if sender else None)


def message(*fields: str, to: str = "ann@office.test") -> Message:
    head = [
        f"To: {to}",
        "From: Bea <bea@elsewhere.test>",
        "Subject: Lunch?",
        "Message-ID: <q1@elsewhere.test>",
        *fields,
    ]
    return Message("\r\n".join([*head, "", "Hi", ""]).encode())


def answer(value: Vacation, text: Message, sender: str = "bea@elsewhere.test") -> EmailMessage:
    made, raw, recipient = reply(value, envelope(sender), text, ANN, ident="r1", hostname="mail.office.test", now=1e9)
    assert made.mail_from is None and str(recipient.address) == sender and recipient.notify == {"NEVER"}
    parsed = email.message_from_bytes(bytes(raw), policy=email.policy.default)
    assert b"\n" not in bytes(raw).replace(b"\r\n", b"")
    assert isinstance(parsed, EmailMessage)
    return parsed


def test_a_person_gets_one() -> None:
    assert why_not(envelope(), message(), ANN) == ""
    assert why_not(envelope(), message("Auto-Submitted: no"), ANN) == ""
    assert why_not(envelope(), message(to="Team <team@x.test>, A <A+tag@office.test>"), ANN) == ""
    assert why_not(envelope(), message("Cc: =?utf-8?q?Ann?= <ann@office.test>", to="x@y.test"), ANN) == ""


@pytest.mark.parametrize(
    ("sender", "fields", "reason"),
    [
        ("", (), "no sender"),
        ("MAILER-DAEMON@x.test", (), "machine"),
        ("owner-list@x.test", (), "machine"),
        ("list-request@x.test", (), "machine"),
        ("no-reply@x.test", (), "machine"),
        ("ann@office.test", (), "itself"),
        ("bea@x.test", ("Auto-Submitted: auto-replied",), "Auto-Submitted"),
        ("bea@x.test", ("Auto-Submitted: auto-generated; x=y",), "Auto-Submitted"),
        ("bea@x.test", ("List-Id: <l.x.test>",), "list-id"),
        ("bea@x.test", ("List-Unsubscribe: <mailto:x@x.test>",), "list-unsubscribe"),
        ("bea@x.test", ("Precedence: Bulk",), "Precedence"),
        ("bea@x.test", ("X-Auto-Response-Suppress: DR, OOF",), "Suppress"),
    ],
)
def test_a_machine_gets_none(sender: str, fields: tuple[str, ...], reason: str) -> None:
    assert reason in why_not(envelope(sender), message(*fields), ANN)


@pytest.mark.parametrize("to", ["team@office.test", "undisclosed-recipients:;", "", "ann@other.test"])
def test_whoever_is_not_named_does_not_answer(to: str) -> None:
    assert "To or Cc" in why_not(envelope(), message(to=to), ANN)


def test_the_reply() -> None:
    text = message("References: <a@x> <b@x>", to="a@office.test")
    got = answer(Vacation(True, text="Back on Monday.\nGrüße\n.dot"), text)
    assert got["Subject"] == "Auto: Lunch?"
    assert (
        got["From"].addresses[0].addr_spec == "a@office.test" and got["From"].addresses[0].display_name == "Ann Ünder"
    )
    assert got["To"] == "bea@elsewhere.test"
    assert got["Auto-Submitted"] == "auto-replied (vacation)" and got["X-Auto-Response-Suppress"] == "All"
    assert got["In-Reply-To"] == "<q1@elsewhere.test>"
    assert got["References"].split() == ["<a@x>", "<b@x>", "<q1@elsewhere.test>"]
    assert got.get_content().replace("\r\n", "\n") == "Back on Monday.\nGrüße\n.dot\n"


def test_a_subject_of_its_own_and_hostile_ones() -> None:
    assert answer(Vacation(True, subject="Weg bis März", text="x"), message())["Subject"] == "Weg bis März"
    hostile = Message(message().raw.replace(b"Lunch?", b"=?utf-8?q?x=0D=0ABcc:_evil=40x.test?="))  # type: ignore[union-attr]
    got = answer(Vacation(True, text="x"), hostile)
    assert got["Bcc"] is None and "evil" in got["Subject"]
    bare = Message(b"To: ann@office.test\r\n\r\n")
    assert answer(Vacation(True, text="x"), bare)["Subject"] == "Auto: your message"


def test_an_address_beyond_ascii() -> None:
    made, raw, _ = reply(
        Vacation(True, text="x"), envelope("bé@elsewhere.test"), message(), ANN, ident="r", hostname="h.test", now=0
    )
    assert made.smtputf8 and "To: bé@elsewhere.test".encode() in bytes(raw)


@pytest.fixture
def vacations(tmp_path: Path) -> Vacations:
    database = Database(StateSettings(), tmp_path)
    metadata.create_all(database.engine)
    return Vacations(database, now=FakeClock(1e9))


def test_once_a_week_to_each_and_again_after_a_change(vacations: Vacations) -> None:
    clock = vacations._now
    assert isinstance(clock, FakeClock)
    assert vacations.first_this_week("ann", "bea@x.test")
    assert not vacations.first_this_week("ann", "bea@x.test")
    assert vacations.first_this_week("ann", "cy@x.test") and vacations.first_this_week("bob", "bea@x.test")
    clock.tick(AGAIN - 1)
    assert not vacations.first_this_week("ann", "bea@x.test")
    clock.tick(2)
    assert vacations.first_this_week("ann", "bea@x.test")
    vacations.set("ann", Vacation(True, text="new"))
    assert vacations.first_this_week("ann", "bea@x.test")


def test_only_between_its_days_and_soon_in_other_workers(vacations: Vacations) -> None:
    clock = vacations._now
    assert isinstance(clock, FakeClock)
    other = Vacations(vacations._database, now=clock)
    assert other.active("ann") is None
    vacations.set("ann", Vacation(True, 1e9 + 10, 1e9 + 20, text="x"))
    assert vacations.active("ann") is None
    clock.tick(10)
    assert vacations.active("ann") is not None and other.active("ann") is not None
    assert vacations.active("bob") is None
    clock.tick(10)
    assert vacations.active("ann") is None
    assert vacations.get("ann") == Vacation(True, 1e9 + 10, 1e9 + 20, text="x")
