"""What is done to our own users' mail: authors checked, fields added and taken out, lines folded."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.auth.accounts import Directory
from mailguard.auth.accountsfile import AccountsFile
from mailguard.delivery.submission import MAX_LINE, author, completed, fold, has_long_lines, refused_author
from mailguard.model.address import Address
from mailguard.model.message import Message
from mailguard.model.reply import Reply

NOW = 1_790_000_000.0
DIRECTORY = Directory.build(
    AccountsFile.model_validate(
        {
            "domain": [{"name": "office.test", "aliases": ["alias.test"]}],
            "account": [
                {"address": "ann@office.test", "aliases": ["sales@office.test"], "send_as": ["*@shop.test"]},
                {"address": "bob@office.test"},
            ],
        }
    ),
    Path("data"),
)
ANN = DIRECTORY.accounts["ann@office.test"]


def refusal(header: bytes) -> str:
    return str(refused_author(DIRECTORY, ANN, Message(header + b"\r\n\r\nx\r\n")) or "")


@pytest.mark.parametrize(
    "value",
    [
        b"ann@office.test", b"Ann <ANN@office.test>", b'"Ann, really" <ann+tag@office.test>', b"sales@office.test",
        b"ann@alias.test", b"any@shop.test", b"ann@office.test, sales@office.test",
        b"=?utf-8?q?=C3=84nn?= <ann@office.test>", b"Ann\r\n <ann@office.test>",
    ],
)  # fmt: skip
def test_own_addresses_may_be_used(value: bytes) -> None:
    assert refusal(b"From: " + value) == ""


@pytest.mark.parametrize(
    "value",
    [
        b"bob@office.test", b"ann@office.test, bob@office.test", b"Ann <bob@office.test>", b"ann@elsewhere.test",
        b'"ann@office.test" <bob@office.test>', b"annn@office.test",
    ],
)  # fmt: skip
def test_others_may_not_and_the_cure_is_named(value: bytes) -> None:
    assert refusal(b"From: " + value).startswith("553 5.7.1 ann@office.test may not send as")
    assert "put send_as = [" in refusal(b"From: " + value)


@pytest.mark.parametrize(
    "header",
    [
        b"From: ann@office.test\r\nFrom: bob@office.test",
        *(b"From: nobody", b"From:", b"From: <>", b"From: a@b@office.test"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused(header: bytes) -> None:
    assert refusal(header).startswith("550 5.6.0")


def test_what_is_missing_is_added_and_bcc_is_gone() -> None:
    raw = b"To: b@x.test\r\nBcc: secret@x.test,\r\n\tother@x.test\r\nSubject: s\r\nreturn-path: <a@b>\r\n\r\nbody\r\n"
    made = bytes(completed(Message(raw), ANN, hostname="mx.test", ident="id1", now=NOW))
    assert made == (
        b"From: ann@office.test\r\nDate: Mon, 21 Sep 2026 14:13:20 +0000\r\nMessage-ID: <id1@office.test>\r\n"
        b"To: b@x.test\r\nSubject: s\r\n\r\nbody\r\n"
    )
    again = Message(made)
    assert completed(again, ANN, hostname="mx.test", ident="id2", now=NOW) is again


def test_long_lines_are_folded_where_they_may_be() -> None:
    words = b" ".join([b"word"] * 600)
    raw = (
        b"Subject: " + words + b"\r\nX: " + b"y" * 2500 + b"\r\n\r\n" + words + b"\r\nshort\r\n" + b"z" * 2000 + b"\r\n"
    )
    assert has_long_lines(raw) and not has_long_lines(raw[:900])
    made = b"".join(fold(raw))
    assert max(map(len, made.split(b"\r\n"))) <= MAX_LINE
    assert made.replace(b"\r\n", b"").replace(b" y", b"y") == raw.replace(b"\r\n", b"").replace(b" y", b"y")
    assert Message(made).get("Subject").split() == words.decode().split()
    assert made.count(b"\r\n\r\n") == 1


@given(st.text(alphabet="aä€😀 ,>", min_size=500, max_size=3000), st.booleans())
def test_folding_cuts_no_character_and_loses_none(text: str, header: bool) -> None:
    line = text.encode()
    raw = b"S: " + line + b"\r\n\r\n" if header else b"S: x\r\n\r\n" + line + b"\r\n"
    made = b"".join(fold(raw))
    assert all(len(one) <= MAX_LINE for one in made.split(b"\r\n"))
    assert made.decode().replace("\r\n", "").replace(" ", "") == raw.decode().replace("\r\n", "").replace(" ", "")


@pytest.mark.parametrize("header", [False, True])
def test_octets_that_are_no_characters_are_folded_too(header: bool) -> None:
    raw = b"S: " + b"\x80" * 5000 + b"\r\n\r\n" if header else b"S: x\r\n\r\n" + b"\xbf" * 5000 + b"\r\n"
    made = b"".join(fold(raw))
    assert all(len(one) <= MAX_LINE for one in made.split(b"\r\n")) and made.count(b"\r\n") < 12
    assert made.replace(b"\r\n", b"").replace(b" ", b"") == raw.replace(b"\r\n", b"").replace(b" ", b"")


def test_the_author_is_read() -> None:
    assert author(Message(b"From: A <a@x.test>, b@y.test\r\n\r\n")) == (Address("a", "x.test"), Address("b", "y.test"))
    assert author(Message(b"Subject: x\r\n\r\n")) == ()
    assert isinstance(author(Message(b"From: x\r\n\r\n")), Reply)
