"""The iprev check by its findings."""

from __future__ import annotations

import pytest

import mailguard_iprev
from mailguard.testing import make_session, run_check

PTR = "1.2.0.192.in-addr.arpa PTR"


@pytest.mark.parametrize(
    ("zone", "word"),
    [
        ({PTR: "mail.example.net", "mail.example.net A": "192.0.2.1"}, "pass"),
        ({PTR: ["x.example.net", "mail.example.net"], "mail.example.net A": ["192.0.2.9", "192.0.2.1"]}, "pass"),
        ({PTR: "mail.example.net", "mail.example.net A": "192.0.2.2"}, "fail"),
        ({}, "permerror"),
        ({PTR: TimeoutError}, "temperror"),
    ],
)
def test_words(zone: dict[str, object], word: str) -> None:
    finding = run_check(mailguard_iprev, dns=zone, session=make_session("192.0.2.1"))
    assert finding is not None
    assert (finding.word, finding.auth[0].method, finding.auth[0].result) == (word, "iprev", word)


def test_our_own_users_are_not_checked() -> None:
    assert run_check(mailguard_iprev, session=make_session(user="bob@example.org")) is None
