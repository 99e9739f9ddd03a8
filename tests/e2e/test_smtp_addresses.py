"""Every way to write an address, said by strangers and by users to a running server: ours, refused, never a relay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import smtptalk

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Talk, has, mails, submitting, USER1, USER2 = (
    smtptalk.Talk, smtptalk.has, smtptalk.mails, smtptalk.submitting, smtptalk.USER1, smtptalk.USER2,
)  # fmt: skip

ACCOUNTS = """
[[domain]]
name = "office.test"
aliases = ["büro.test"]

[[domain]]
name = "all.test"
catch_all = "user1@office.test"

[[domain]]
name = "out.test"
postmaster = "boss@elsewhere.test"

[[account]]
address = "user1@office.test"
aliases = ["first@office.test"]

[[account]]
address = "user2@office.test"
quota_messages = 2

[[account]]
address = "gone@office.test"
disabled = true

[[alias]]
address = "sales@office.test"
to = ["user1@office.test", "user2@office.test", "partner@elsewhere.test"]

[[alias]]
address = "far@office.test"
to = ["partner@elsewhere.test"]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder = tmp_path_factory.mktemp("addresses") / "m"
    # One worker: what another one has just delivered counts a few seconds later.
    settings = ("workers=1", 'subaddress_separator="-"', "smtp.errors=1000", "smtp.header_limit=65536")
    with smtptalk.serving(folder, *settings, accounts=ACCOUNTS) as made:
        yield made


@pytest.fixture
def stranger(server: Any) -> Iterator[Any]:
    with Talk(server.port(25)) as talk:
        talk.say("EHLO c.test")
        talk.say("MAIL FROM:<ann@example.net> SMTPUTF8")
        yield talk


OURS = [
    "user1@office.test", "USER1@Office.Test", "user1@office.test.", '"user1"@office.test', "first@office.test",
    "user1-news@office.test", "user1-a-b@xn--bro-hoa.test", "user1@büro.test", "@hop.test:user1@office.test",
    "@a.test,@b.test:user1@office.test", "whoever@all.test", "user%elsewhere.test@all.test", "Postmaster",
    "POSTMASTER@office.test", "postmaster@all.test", "postmaster@out.test", "abuse@office.test", "far@office.test",
]  # fmt: skip


@pytest.mark.parametrize("address", OURS)
def test_what_is_ours_is_taken(stranger: Any, address: str) -> None:
    assert stranger.say(f"RCPT TO:<{address}>").startswith("250 2.1.5"), address


REFUSED = [
    ("user%elsewhere.test@office.test", "550 5.1.1"), ("elsewhere.test!user@office.test", "550 5.1.1"),
    ('"user@elsewhere.test"@office.test', "550 5.1.1"), ('"user1@office.test"@elsewhere.test', "550 5.7.1"),
    ("user1+news@office.test", "550 5.1.1"), ("-news@office.test", "550 5.1.1"),
    ("user1@office.test.elsewhere.test", "550 5.7.1"),
    ("@office.test:user@elsewhere.test", "550 5.7.1"), ("@elsewhere.test,@office.test:x@elsewhere.test", "550 5.7.1"),
    ("user@[192.0.2.1]", "550 5.7.1"), ("user1@[127.0.0.1]", "550 5.7.1"), ("user@[IPv6:2001:db8::1]", "550 5.7.1"),
    ("user@bücher.test", "550 5.7.1"), ("user@xn--bcher-kva.test", "550 5.7.1"), ("user@sub.office.test", "550 5.7.1"),
    ("gone@office.test", "550 5.2.1"), ("gone-tag@office.test", "550 5.2.1"), ("gone@büro.test", "550 5.2.1"),
    ("nobody@out.test", "550 5.1.1"), ("user1@", "501 5.1.3"), ("@office.test", "501 5.5.4"), ("user1", "501 5.1.3"),
    ("user1@office..test", "501 5.1.3"), ("a@b@office.test", "501 5.1.3"), ("user1 @office.test", "501 5.1.3"),
    ("user@[192.0.2.256]", "501 5.1.3"), ("user1@office.test>,<x@elsewhere.test", "501 5.5.4"),
    ("user1@office_test\\@x", "501 5.1.3"), ("x" * 65 + "@office.test", "501 5.1.3"),
]  # fmt: skip


@pytest.mark.parametrize(("address", "code"), REFUSED)
def test_what_is_not_ours_is_refused(stranger: Any, address: str, code: str) -> None:
    assert stranger.say(f"RCPT TO:<{address}>").startswith(code), address


def test_nothing_of_it_went_out(server: Any) -> None:
    """No address of a stranger's led into the queue; the aliases that do were only named, not written to."""
    listed = server.run("queue", "--config", str(server.config), "list", "--json", config=False).stdout
    assert [line for line in listed.splitlines() if "elsewhere.test" in line and "partner@" not in line] == []


def test_a_full_mailbox_is_told_at_rcpt(server: Any) -> None:
    for n in range(2):
        assert smtptalk.send(server, f"fills {n}", rcpt=USER2).startswith("250")
    with Talk(server.port(25)) as talk:
        talk.say("EHLO c.test")
        talk.say("MAIL FROM:<ann@example.net>")
        assert talk.say(f"RCPT TO:<{USER2}>").startswith(f"452 4.2.2 the mailbox {USER2} is full")
        assert talk.say(f"RCPT TO:<{USER1}>").startswith("250")  # nobody else suffers
        assert talk.data(b"Subject: for one\r\n\r\nx").startswith("250")
    server.wait_for(f'to={USER2} peer=127.0.0.1 reply="452 4.2.2')
    assert has(server, "for one") and not has(server, "for one", USER2)
    root = smtptalk.folder(server, USER2)
    for path in [*(root / "new").iterdir(), *(root / "cur").iterdir()]:
        path.unlink()
    assert smtptalk.send(server, "room again", rcpt=USER2).startswith("250")
    assert has(server, "room again", USER2)


def test_an_alias_reaches_everybody_behind_it_once(server: Any) -> None:
    with Talk(server.port(25)) as talk:
        talk.open("sales@office.test")
        assert talk.say("RCPT TO:<sales@office.test>").startswith("250")
        assert talk.data(b"Subject: to sales\r\n\r\nx").startswith("250")
    for user in (USER1, USER2):
        assert sum(b"Subject: to sales" in raw for raw in mails(server, user)) == 1
    listed = server.run("queue", "--config", str(server.config), "list", "--json", config=False).stdout
    entries = [json.loads(line) for line in listed.splitlines() if "partner@elsewhere.test" in line]
    assert len(entries) == 1


def test_a_user_may_write_outside_but_not_to_a_literal(server: Any) -> None:
    with submitting(server) as talk:
        talk.say("EHLO c.test")
        talk.say(f"MAIL FROM:<{USER1}>")
        assert talk.say("RCPT TO:<bob@elsewhere.test>").startswith("250")
        assert talk.say("RCPT TO:<bob@[192.0.2.1]>").startswith("550 5.1.2")
        assert talk.say("RCPT TO:<nobody@office.test>").startswith("550 5.1.1")


FORGED = [
    "From: user2@office.test", "From: user1@office.test, user2@office.test", "From : user2@office.test",
    "From: user2@office.test (user1@office.test)", "From: user1@office.test\r\nFrom: user2@office.test",
    "no field\r\nFrom: user2@office.test", "From:\r\n user2@office.test", "fROM: <user2@office.test>",
    'From: "user1@office.test" <user2@office.test>', "From: team: user1@office.test, user2@office.test;", "From: ",
]  # fmt: skip


@pytest.mark.parametrize("header", FORGED)
def test_nobody_writes_in_anothers_name(server: Any, header: str) -> None:
    with submitting(server) as talk:
        talk.open(USER1, USER1)
        reply = talk.data(f"Subject: forged\r\n{header}\r\n\r\nx".encode())
        assert reply.startswith(("553 5.7.1", "550 5.6.0")), reply


@pytest.mark.parametrize(
    "sender",
    ["user1-tag@office.test", "first@office.test", "User1@Office.test", "user1@büro.test", "first-x@büro.test"],
)
def test_ones_own_addresses_are_many(server: Any, sender: str) -> None:
    with submitting(server) as talk:
        talk.open(USER1, sender, mail=" SMTPUTF8")
        assert talk.data(f"From: {sender}\r\n\r\nx".encode()).startswith("250")


def test_a_header_without_end_is_refused(server: Any) -> None:
    with Talk(server.port(25)) as talk:
        talk.open()
        assert talk.data(b"X: y\r\n" * 20_000).startswith("552 5.3.4 the header section has more than the 65536 octets")
        talk.open()
        assert talk.data(b"Subject: long body\r\n\r\n" + b"X: y\r\n" * 20_000).startswith("250")
