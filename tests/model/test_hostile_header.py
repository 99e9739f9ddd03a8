"""Header fields made to take long or to break their reader: bounded work, and an answer."""

from __future__ import annotations

import pytest

from mailguard.model.address import Address
from mailguard.model.addresslist import read_addresses
from mailguard.model.message import Message
from mailguard.pipeline.facts import author_domains, of_message
from mailguard.protocol.imap.section import fields
from mailguard.protocol.pop3.downgrade import downgraded

LONG = 200_000


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ("=?utf-8?b?Y2Fmw6k=?= =?utf-8?q?_noir?=", "café noir"),
        ("=?utf-8?b?Y2Fmw6k?=", "café"),  # no padding
        ("=?utf-8?b?Y?= x", " x"),
        ("=?none?q?caf=E9?=", "café"),
    ],
)
def test_broken_encoded_words_are_read_as_far_as_they_go(value: str, read: str) -> None:
    message = Message(f"Subject: {value}\r\n\r\n".encode())
    assert message.fields[0].decoded == read
    assert of_message(message)["subject"] == read


def test_comments_nested_without_end_name_nobody() -> None:
    value = "(" * LONG
    message = Message(f"From: {value}\r\n\r\n".encode())
    assert read_addresses([value]) == []
    assert author_domains(message) == set()
    assert of_message(message)["from"] == ""
    assert read_addresses(["Ann (at (home)) <a@x.example>"])[0][1] == str(Address.parse("a@x.example"))


@pytest.mark.parametrize("line", ["a", "é", " ", "a ", "\t:"])
def test_a_header_line_that_is_no_field_is_passed_over_once(line: str) -> None:
    header = f"Subject: x\r\n{line * LONG}\r\nTo: y\r\n\r\n".encode()
    assert fields(header, (b"to",)) == b"To: y\r\n\r\n"


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("J\u00fcrgen <j\u00fc@x.example>", "<invalid@internationalized-address.invalid>"),
        ("ann@b\u00fcro.example", "<invalid@internationalized-address.invalid>"),
        ("J\u00fcrgen <j@x.example>", "=?utf-8?q?J=C3=BCrgen?= <j@x.example>"),
    ],
)
def test_addresses_only_utf8_can_write_cannot_be_answered(value: str, sent: str) -> None:
    assert sent.encode() in downgraded(f"To: {value}\r\n\r\nx".encode())


@pytest.mark.parametrize("piece", ["\u00e9", "<\u00e9", "<", "\u00e9@", "a\u00e9 ", "<\u00e9>"])
def test_long_fields_become_ascii(piece: str) -> None:
    """Looked through from each character anew, this would take days."""
    assert downgraded(f"To: \u00e9{piece * (LONG // len(piece))}\r\n\r\nx".encode()).isascii()
