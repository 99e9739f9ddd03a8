"""The SPF check, against the whole RFC 7208 suite and by its findings."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import mailguard_spf
from mailguard.plugin import Answer, DnsTemporaryError
from mailguard.testing import make_envelope, make_session, run_check


class SuiteZone:
    """The suite's zone data as a resolver: ``TIMEOUT`` answers nothing, TXT falls back to the SPF type."""

    def __init__(self, zone: dict[str, Any]) -> None:
        self._zone = {str(name).lower(): rows for name, rows in zone.items()}

    def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> Answer:
        for _ in range(10):
            rows = self._zone.get(name.lower(), [])
            found = [row for row in rows if isinstance(row, dict) and rdtype in row]
            if rdtype == "TXT" and not found:
                found = [{"TXT": row["SPF"]} for row in rows if isinstance(row, dict) and "SPF" in row]
            alias = [row["CNAME"] for row in rows if isinstance(row, dict) and "CNAME" in row]
            if found or not alias:
                break
            name = alias[0]
        texts = [_text(row[rdtype]) for row in found if row[rdtype] != "NONE"]
        if not texts and "TIMEOUT" in rows:
            raise DnsTemporaryError(name)
        return Answer(tuple(texts), exists=bool(rows))


def _text(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], int):
        return f"{value[0]} {value[1]}"
    parts = value if isinstance(value, list) else [value]
    return b"".join(p if isinstance(p, bytes) else str(p).encode() for p in parts).decode("utf-8", "surrogateescape")


def _cases() -> list[Any]:
    folder = Path(os.environ.get("MAILGUARD_SHARED") or Path(__file__).resolve().parents[3] / "shared")
    file = folder / "testdata/spf/rfc7208-tests.yml"
    if not file.exists() or find_spec("yaml") is None:
        return []
    import yaml

    scenarios = yaml.safe_load_all(file.read_text("utf-8"))
    return [
        pytest.param(test, scenario["zonedata"], id=f"{name}")
        for scenario in scenarios
        for name, test in scenario["tests"].items()
    ]


@pytest.mark.skipif(not _cases(), reason="needs third-party test data (MAILGUARD_SHARED) and pyyaml")
def test_the_suite_is_whole() -> None:
    assert len(_cases()) == 203


@pytest.mark.parametrize(("test", "zone"), _cases())
def test_rfc7208_suite(test: dict[str, Any], zone: dict[str, Any]) -> None:
    mail_from = test["mailfrom"]
    result = mailguard_spf.evaluate(
        SuiteZone(zone), ip=test["host"], mail_from=mail_from, helo=test["helo"], receiver="receiver.example"
    )
    expected = test["result"] if isinstance(test["result"], list) else [test["result"]]
    assert result.word in expected, result
    if "explanation" in test and result.word == "fail" and test["explanation"] != "DEFAULT":
        assert result.explanation == test["explanation"]


ZONE = {
    "example.net TXT": ["unrelated", "v=spf1 ip4:192.0.2.0/24 -all"],
    "mail.example.net TXT": "v=spf1 a -all",
    "mail.example.net A": "192.0.2.1",
    "slow.example TXT": TimeoutError,
}


def test_an_allowed_host_passes_in_both_identities() -> None:
    finding = run_check(mailguard_spf, dns=ZONE)
    assert finding is not None
    assert finding.word == "pass"
    assert [a.properties for a in finding.auth] == [
        (("smtp", "helo", "mail.example.net"),),
        (("smtp", "mailfrom", "example.net"),),
    ]
    assert finding.reason == "example.net lets 192.0.2.1 send its mail"


def test_a_stranger_fails() -> None:
    finding = run_check(mailguard_spf, dns=ZONE, session=make_session("198.51.100.7", helo="elsewhere"))
    assert finding is not None
    assert (finding.word, finding.reason) == ("fail", "example.net does not let 198.51.100.7 send its mail")


def test_the_null_reverse_path_is_checked_by_its_helo_name() -> None:
    finding = run_check(mailguard_spf, dns=ZONE, envelope=make_envelope(None))
    assert finding is not None
    assert (finding.word, finding.facts["domain"]) == ("pass", "mail.example.net")


def test_a_dead_dns_is_no_failure() -> None:
    finding = run_check(mailguard_spf, dns=ZONE, envelope=make_envelope("a@slow.example"))
    assert finding is not None
    assert finding.word == "temperror"


def test_our_own_users_are_not_checked() -> None:
    assert run_check(mailguard_spf, dns=ZONE, session=make_session(user="bob@example.org")) is None
