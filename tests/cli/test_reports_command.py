"""``mailguard reports`` as a postmaster types it."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mailguard.cli.reports import reports
from mailguard.delivery import dmarcreport, tlsreport
from mailguard.delivery.reportmail import Parcel, compose

_spec = importlib.util.spec_from_file_location("reports_data", Path(__file__).parents[1] / "delivery/test_reports.py")
assert _spec is not None and _spec.loader is not None
_data: Any = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_data)


@pytest.fixture
def office(tmp_path: Path) -> Path:
    (tmp_path / "mailguard.toml").write_text('hostname = "mail.office.test"\n')
    accounts = '[[domain]]\nname = "office.test"\n\n[[account]]\naddress = "boss@office.test"\n'
    (tmp_path / "accounts.toml").write_text(accounts)
    folder = tmp_path / "data/mail/office.test/boss/new"
    folder.mkdir(parents=True)
    made = {"dmarc": dmarcreport.build(_data.DMARC), "tls": tlsreport.build(_data.TLS)}
    for kind, data in made.items():
        parcel = Parcel(kind, "office.test", "r", 1_700_000_000, 1_700_086_400, data)
        mail = compose(parcel, submitter="big.example", sender="a@big.example", to="b@office.test", ident=kind, now=0)
        (folder / kind).write_bytes(bytes(mail))
    return tmp_path


def run(office: Path, *words: str) -> str:
    result = CliRunner().invoke(reports, [*words, "-c", str(office / "mailguard.toml")], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_a_summary_of_both_kinds(office: Path) -> None:
    told = [line.split() for line in run(office).splitlines()]
    assert ["DMARC", "office.test", "2023-11-14", "big.example", "12", "3"] in told
    assert ["TLS,", "MTA-STS", "office.test", "2023-11-15", "Big", "Mail", "40", "2"] in told


def test_failures_name_the_source(office: Path) -> None:
    told = run(office, "--failures")
    assert "203.0.113.9" in told and "From: office.test; spf none for evil.test" in told
    assert "certificate-expired" in told and "mail.office.test" in told
    assert "192.0.2.1" not in told


def test_json_and_a_domain(office: Path) -> None:
    assert {one["report_id"] for one in json.loads(run(office, "--json"))} == {"r1", "t1"}
    assert json.loads(run(office, "--json", "--domain", "other.test")) == []
    assert "no reports" in run(office, "--domain", "other.test")


def test_files_and_what_is_broken(office: Path) -> None:
    good, bad = office / "r.json.gz", office / "r.xml"
    good.write_bytes(gzip.compress(tlsreport.build(_data.TLS)))
    bad.write_bytes(b"<feedback")
    told = run(office, str(good), str(bad))
    assert "Big Mail" in told and "r.xml: not XML" in told


def test_only_what_is_recent(office: Path) -> None:
    for path in (office / "data/mail/office.test/boss/new").iterdir():
        os.utime(path, (1, 1))
    assert "no reports" in run(office, "--days", "3")
