from __future__ import annotations

import pytest

from mailguard.protocol.imap.sort import SentDate, base_subject, collation, fold, sent_date


@pytest.mark.parametrize(
    ("subject", "base", "changed"),
    [
        ("foo", "foo", False),
        ("Re: foo", "foo", True),
        ("re[4]: Fwd: foo (fwd)", "foo", True),
        ("[list] Re: [list] foo", "foo", True),
        ("[list] foo", "foo", False),
        ("[only]", "[only]", False),
        ("[fwd: hello]", "hello", True),
        ("Re: [Fwd: [x] Re: deep (fwd)]", "deep", True),
        ("FW: a  b", "a b", True),
        ("Regards: x", "Regards: x", False),
        ("Re:", "", True),
        ("", "", False),
    ],
)
def test_base_subject(subject: str, base: str, changed: bool) -> None:
    assert base_subject(subject) == (base, changed)


def test_hostile_subject_is_bounded() -> None:
    base_subject("[a]" * 100_000)
    base_subject("re: " * 100_000)


@pytest.mark.parametrize(
    ("value", "at", "day"),
    [
        (b"Thu, 01 Jan 1970 01:00:00 +0100", 0, 0),
        (b"Thu, 1 Jan 1970 23:59:59 -0100", 90_000 - 1, 0),
        (b"2 Jan 70 00:00 GMT", 86_400, 1),
        (b"Fri, 02 Jan 1970 00:00:00 EST", 86_400 + 5 * 3600, 1),
        (b"Thu Jan  1 00:00:10 1970", 10, 0),
        (b"Thu, 1 Jan 1970 00:00:00 (no zone)", 0, 0),
    ],
)
def test_dates(value: bytes, at: int, day: int) -> None:
    assert sent_date(value) == SentDate(at, day)


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"tomorrow",
        b"Thu, 18 Jul 0102 19:51:35 -0100",
        b"31 Feb 2020 00:00:00 +0000",
        b"1 Foo 2020 00:00:00 +0000",
        b"\xff",
    ],
)
def test_no_dates(value: bytes | None) -> None:
    assert sent_date(value) is None


def test_comparison_ignores_case_and_composition() -> None:
    assert collation("Éa") == collation("E\u0301A")
    assert fold("STRASSE") == fold("straße")
    assert fold("a\r\n b") == "a b"
