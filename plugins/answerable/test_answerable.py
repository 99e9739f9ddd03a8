"""The answerable check by its findings."""

from __future__ import annotations

import pytest

import mailguard_answerable
from mailguard.testing import make_envelope, make_session, run_check


@pytest.mark.parametrize(
    ("zone", "word"),
    [
        ({"example.net MX": "10 mail.example.net"}, "ok"),
        ({"example.net MX": ["0 .", "10 mail.example.net"]}, "ok"),  # a null MX must stand alone (RFC 7505 §3)
        ({"example.net A": "192.0.2.1"}, "ok"),
        ({"example.net AAAA": "2001:db8::1"}, "ok"),
        ({"example.net MX": "0 ."}, "null_mx"),
        ({}, "none"),
        ({"example.net MX": TimeoutError}, "temperror"),
        ({"example.net AAAA": TimeoutError}, "temperror"),
    ],
)
def test_words(zone: dict[str, object], word: str) -> None:
    finding = run_check(mailguard_answerable, dns=zone, envelope=make_envelope(mail_from="a@example.net"))
    assert finding is not None
    assert finding.word == word


def test_bounces_literals_and_our_own_users_are_not_asked_about() -> None:
    for sender in ("", "a@[192.0.2.1]"):
        assert run_check(mailguard_answerable, envelope=make_envelope(mail_from=sender)) is None
    own = make_session(user="bob@example.org")
    assert run_check(mailguard_answerable, session=own, envelope=make_envelope(mail_from="a@example.net")) is None
