"""Reports of others: read from real mail shapes, and never trusted; ours read back as we wrote them."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import zipfile
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.delivery import dmarcreport, tlsreport
from mailguard.delivery.dmarcreport import AuthDomain, DmarcReport, DmarcRow
from mailguard.delivery.report import ReportError
from mailguard.delivery.reportbox import in_files, in_maildirs, once
from mailguard.delivery.reportmail import MAX_UNPACKED, Parcel, compose, find_reports, may_hold_report, unpack
from mailguard.delivery.tlsreport import TlsFailure, TlsPolicyReport, TlsReport

DMARC = DmarcReport(
    "big.example",
    "noreply@big.example",
    "r1",
    1_700_000_000,
    1_700_086_400,
    "office.test",
    (("adkim", "r"), ("p", "reject")),
    (
        DmarcRow(
            "192.0.2.1",
            12,
            "none",
            "pass",
            "pass",
            "office.test",
            "",
            (AuthDomain("dkim", "office.test", "pass", "s1"),),
        ),
        DmarcRow(
            "203.0.113.9",
            3,
            "reject",
            "fail",
            "fail",
            "office.test",
            "evil.test",
            (AuthDomain("spf", "evil.test", "none"),),
        ),
    ),
)
TLS = TlsReport(
    "Big Mail",
    "tls@big.example",
    "t1",
    1_700_006_400,
    1_700_092_799,
    (
        TlsPolicyReport(
            "sts",
            "office.test",
            40,
            2,
            (TlsFailure("certificate-expired", 2, "mail.office.test"),),
            ("version: STSv1", "mode: enforce"),
            ("mail.office.test",),
        ),
    ),
)


def test_what_we_write_is_read_back() -> None:
    assert dmarcreport.parse(dmarcreport.build(DMARC)) == DMARC
    assert tlsreport.parse(tlsreport.build(TLS)) == TLS
    assert [row.passed for row in DMARC.rows] == [True, False]


def test_a_namespace_and_missing_parts_are_taken() -> None:
    plain = dmarcreport.build(DMARC)
    spaced = plain.replace(b"<feedback>", b'<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0">')
    assert dmarcreport.parse(spaced) == DMARC


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<feedback", "not XML"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><feedback/>', "not XML"),
        (b"<html/>", "not a <feedback>"),
        (b"<feedback><record><row><count>many</count></row></record></feedback>", "not a number"),
    ],
)
def test_what_is_no_dmarc_report(data: bytes, words: str) -> None:
    with pytest.raises(ReportError, match=words):
        dmarcreport.parse(data)


@pytest.mark.parametrize(
    "data", [b"{", b"[]", b'{"policies": 1}', b'{"policies": [], "date-range": {}}', b"[" * 100_000]
)
def test_what_is_no_tls_report(data: bytes) -> None:
    with pytest.raises(ReportError):
        tlsreport.parse(data)


@given(st.binary(max_size=300))
def test_no_octets_break_the_readers(data: bytes) -> None:
    for read in (dmarcreport.parse, tlsreport.parse, unpack):
        with contextlib.suppress(ReportError):
            read(data)


def message(data: bytes, kind: str, name: str, subject: str = "Report Domain: office.test") -> bytes:
    mail = EmailMessage()
    mail["Subject"] = subject
    mail.set_content("a report")
    mail.add_attachment(data, *kind.split("/"), filename=name)  # type: ignore[arg-type]
    return mail.as_bytes().replace(b"\n", b"\r\n")


def zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("report.xml", data)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "kind", "name"),
    [
        (gzip.compress(dmarcreport.build(DMARC)), "application/gzip", "big!office.test!1700000000!1700086400.xml.gz"),
        (zipped(dmarcreport.build(DMARC)), "application/zip", "big!office.test!1700000000!1700086400.zip"),
        (dmarcreport.build(DMARC), "text/xml", "report.xml"),
        (gzip.compress(dmarcreport.build(DMARC)), "application/octet-stream", "report.xml.gz"),
    ],
)
def test_a_report_is_found_however_it_is_packed(data: bytes, kind: str, name: str) -> None:
    raw = message(data, kind, name)
    assert may_hold_report(raw[:16_384])
    assert list(find_reports(raw)) == [DMARC]


def test_a_bomb_is_refused_and_somebodys_archive_is_not_our_business() -> None:
    bomb = gzip.compress(b"<feedback>" + b" " * (MAX_UNPACKED + 1))
    with pytest.raises(ReportError, match="larger than"):
        list(find_reports(message(bomb, "application/gzip", "a!b!1700000000!1700086400.xml.gz")))
    assert not list(find_reports(message(b"PK\x03\x04 broken", "application/zip", "holiday.zip")))
    assert not list(find_reports(message(zipped(b"text"), "application/zip", "holiday.zip")))


@pytest.mark.parametrize(("kind", "report"), [("dmarc", DMARC), ("tls", TLS)])
def test_what_we_send_is_found_as_a_report(kind: str, report: DmarcReport | TlsReport) -> None:
    build = dmarcreport.build if isinstance(report, DmarcReport) else tlsreport.build
    parcel = Parcel(kind, "office.test", "r1", report.begin, report.end, build(report))  # type: ignore[arg-type, operator]
    mail = compose(
        parcel, submitter="big.example", sender="noreply@big.example", to="dmarc@office.test", ident="i1", now=0
    )
    raw = bytes(mail)
    assert list(find_reports(raw)) == [report]
    assert mail.get("Subject") == "Report Domain: office.test Submitter: big.example Report-ID: <r1>"
    assert (mail.get("TLS-Required") == "No") == (kind == "tls")
    assert max(map(len, raw.split(b"\r\n"))) < 200


def test_each_report_counts_once_wherever_it_lies(tmp_path: Path) -> None:
    raw = message(gzip.compress(dmarcreport.build(DMARC)), "application/gzip", "a!b!1700000000!1700086400.xml.gz")
    for name in ("new", "cur", ".Reports.2023/cur"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.x").write_bytes(raw)
    (tmp_path / "new" / "2.x").write_bytes(b"Subject: lunch\r\n\r\nhi\r\n")
    old = tmp_path / "new" / "3.x"
    old.write_bytes(raw.replace(b"r1", b"r2"))
    os.utime(old, (1, 1))
    found = list(in_maildirs([tmp_path], since=100))
    assert len(found) == 3 and [one.report for one in once(found)] == [DMARC]
    alone = tmp_path / "alone.xml"
    alone.write_bytes(dmarcreport.build(DMARC))
    (tmp_path / "tls.json.gz").write_bytes(gzip.compress(tlsreport.build(TLS)))
    both = [one.report for one in in_files([alone, tmp_path / "tls.json.gz", tmp_path / "new/1.x"])]
    assert both == [DMARC, TLS, DMARC]
