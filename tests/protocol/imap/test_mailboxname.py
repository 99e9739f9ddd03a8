"""Modified UTF-7 and LIST patterns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.protocol.imap.mailboxname import decode_name, encode_name, pattern


@pytest.mark.parametrize(
    ("name", "coded"),
    [
        ("INBOX", "INBOX"),
        ("A & B", "A &- B"),
        ("Entwürfe", "Entw&APw-rfe"),
        ("~peter/mail/台北/日本語", "~peter/mail/&U,BTFw-/&ZeVnLIqe-"),
        ("\U0001f600", "&2D3eAA-"),
    ],
)
def test_names_of_the_rfc_and_others(name: str, coded: str) -> None:
    assert encode_name(name) == coded
    assert decode_name(coded) == name


@given(st.text(max_size=40))
def test_there_and_back(name: str) -> None:
    if name.isprintable() or all(ord(c) < 0xD800 for c in name):
        assert decode_name(encode_name(name)) == name


@pytest.mark.parametrize("coded", ["&", "a&b", "&AP-", "&!!-", "ü", "&2D0-"])
def test_what_is_no_modified_utf7_is_refused(coded: str) -> None:
    with pytest.raises(ValueError, match="modified UTF-7"):
        decode_name(coded)


@pytest.mark.parametrize(
    ("reference", "mailbox", "fits", "not_fits"),
    [
        ("", "*", ["INBOX", "A/B/C"], []),
        ("", "%", ["INBOX", "A"], ["A/B"]),
        ("A/", "%", ["A/B"], ["A", "A/B/C"]),
        ("", "inbox", ["INBOX"], ["INBOX/a"]),
        ("", "A.B", ["A.B"], ["AxB"]),
        ("", "*/C", ["A/B/C", "A/C"], ["C"]),
    ],
)
def test_patterns(reference: str, mailbox: str, fits: list[str], not_fits: list[str]) -> None:
    found = pattern(reference, mailbox)
    assert all(found.match(name) for name in fits)
    assert not any(found.match(name) for name in not_fits)
