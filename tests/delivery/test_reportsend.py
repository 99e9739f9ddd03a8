"""The daily post: counted, addressed to whoever asked and may be told, sent once, and readable."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import structlog

from mailguard.delivery.dmarcrecord import destinations, mailto, published
from mailguard.delivery.dmarcreport import DmarcReport
from mailguard.delivery.queue import Queue
from mailguard.delivery.report_settings import ReportSettings
from mailguard.delivery.reportmail import find_reports
from mailguard.delivery.reportsend import ReportPost
from mailguard.delivery.tlsledger import DAY, TlsLedger
from mailguard.delivery.tlspolicy import TlsPolicy
from mailguard.delivery.tlsreport import TlsReport
from mailguard.model.address import Address
from mailguard.net.dmarc import organisational_domain
from mailguard.state import record
from mailguard.state.database import Database, metadata
from mailguard.state.settings import StateSettings
from mailguard.testing import FakeClock, FakeResolver

TODAY = 20_000
ZONE = {
    "_dmarc.x.test TXT": "v=DMARC1; p=reject; rua=mailto:dmarc@x.test,mailto:agg@monitor.test!1m,mailto:spy@other.test",
    "x.test._report._dmarc.monitor.test TXT": "v=DMARC1",
    "_dmarc.mute.test TXT": "v=DMARC1; p=none",
    "_smtp._tls.x.test TXT": "v=TLSRPTv1; rua=mailto:tls@x.test,https://x.test/report",
    "_smtp._tls.two.test TXT": ["v=TLSRPTv1; rua=mailto:a@two.test", "v=TLSRPTv1; rua=mailto:b@two.test"],
}


class House:
    def __init__(self, folder: Path) -> None:
        self.clock = FakeClock(TODAY * DAY + 3600.0)
        self.database = Database(StateSettings(), folder)
        metadata.create_all(self.database.engine)
        self.queue = Queue(self.database, folder / "queue", now=self.clock)
        self.dns = FakeResolver(ZONE)
        self.ledger = TlsLedger(self.database, structlog.get_logger(), self.clock)
        self.ids = (f"i{n}" for n in range(100))

    def post(self, **settings: Any) -> ReportPost:
        return ReportPost(
            ReportSettings.model_validate(settings),
            self.queue,
            self.dns,
            self.ledger,
            domains=frozenset({"office.test"}),
            sender=Address.parse("postmaster@office.test"),
            sign=lambda message, domain: message.prepend(f"X-Signed: {domain}\r\n".encode()),
            new_id=lambda: next(self.ids),
            log=structlog.get_logger(),
            now=self.clock,
        )

    def queued(self) -> dict[str, Any]:
        """Recipient -> message."""
        found = {}
        for destination, _ in self.queue.due(self.clock()):
            for work in self.queue.claim(destination, limit=99, lease_seconds=60):
                assert work.recipients[0].recipient.notify == {"NEVER"}
                message = self.queue.bodies.read(work.message.id)
                found.update({str(r.recipient.address): message for r in work.recipients})
        return found

    def verdict(self, author: str, *, ip: str = "192.0.2.1", at: float = (TODAY - 1) * DAY + 60, **more: Any) -> None:
        values = {"spf": "fail", "dkim": "", "dmarc": "reject", "action": "reject", "sender": "s@evil.test", **more}
        row = dict.fromkeys(("session", "account", "rcpt", "subject", "message_id", "decision", "place", "reply"), "")
        findings = {"dmarc": {"word": values["dmarc"]}, "spf": {"word": values["spf"]}}
        if values["dkim"]:
            findings["dkim"] = {"word": "pass", "detail": values["dkim"]}
        row |= {"id": "v", "at": at, "stage": "message", "peer_ip": ip, "mail_from": values["sender"], "author": author}
        row |= {"size": 1, "action": values["action"], "score": 0.0}
        row["data"] = json.dumps({"facts": {}, "findings": findings})
        with self.database.write() as connection:
            record.insert(connection, [row], [])


@pytest.fixture
def house(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = House(tmp_path)
    yield made
    made.database.close()


def test_dmarc_rows_are_counted_and_go_to_whoever_may_have_them(house: House) -> None:
    for _ in range(3):
        house.verdict("a@x.test")
    house.verdict("b@mail.x.test", ip="192.0.2.2", spf="pass", sender="s@x.test", dmarc="pass", action="accept")
    house.verdict("c@x.test", ip="192.0.2.3", dkim="x.test/s1: pass; evil.test/: fail bad", dmarc="pass", action="junk")
    house.verdict("d@x.test", at=TODAY * DAY + 5)  # today
    house.verdict("e@mute.test")
    house.verdict("f@office.test")
    assert house.post(dmarc=True).send(TODAY - 1) == 2
    queued = house.queued()
    assert sorted(queued) == ["agg@monitor.test", "dmarc@x.test"]  # spy@other.test has no leave to get any
    message = queued["dmarc@x.test"]
    assert message.get("X-Signed") == "office.test" and message.get("From") == "postmaster@office.test"
    (report,) = find_reports(bytes(message))
    assert isinstance(report, DmarcReport)
    assert (report.domain, report.begin, report.end) == ("x.test", (TODAY - 1) * DAY, TODAY * DAY - 1)
    assert dict(report.policy)["p"] == "reject"
    rows = {row.source_ip: row for row in report.rows}
    assert (rows["192.0.2.1"].count, rows["192.0.2.1"].disposition, rows["192.0.2.1"].passed) == (3, "reject", False)
    assert (rows["192.0.2.2"].spf, rows["192.0.2.2"].disposition) == ("pass", "none")
    assert (rows["192.0.2.3"].dkim, rows["192.0.2.3"].spf) == ("pass", "fail")
    assert [(a.domain, a.selector, a.result) for a in rows["192.0.2.3"].auth][:2] == [
        ("x.test", "s1", "pass"),
        ("evil.test", "", "fail"),
    ]
    assert not any("@" in row.envelope_from for row in report.rows)  # domains only, nobody's address


def test_tls_outcomes_of_the_day_by_policy(house: House) -> None:
    house.clock.at -= DAY
    sts = TlsPolicy("verify", "MTA-STS")
    for _ in range(4):
        house.ledger("x.test", "mx.x.test", sts, "")
    house.ledger("x.test", "mx2.x.test", sts, "certificate-expired")
    house.ledger("x.test", "mx.x.test", TlsPolicy("may"), "starttls-not-supported")
    house.ledger("two.test", "mx.two.test", TlsPolicy("may"), "")
    house.ledger.flush()
    house.ledger("x.test", "mx.x.test", sts, "")
    house.ledger.flush()
    house.clock.at += DAY
    assert house.post(tls=True).send(TODAY - 1) == 1  # two records are none
    message = house.queued()["tls@x.test"]
    assert message.get("TLS-Required") == "No" and message.get("TLS-Report-Domain") == "x.test"
    (report,) = find_reports(bytes(message))
    assert isinstance(report, TlsReport)
    assert report.begin == (TODAY - 1) * DAY
    assert [(p.kind, p.successes, p.failed) for p in report.policies] == [("no-policy-found", 0, 1), ("sts", 5, 1)]
    assert report.policies[1].failures[0].result == "certificate-expired"


def test_each_is_sent_once_and_nothing_unless_switched_on(house: House) -> None:
    house.verdict("a@x.test")
    assert house.post().send(TODAY - 1) == 0
    assert house.post(dmarc=True).send(TODAY - 1) == 2
    assert house.post(dmarc=True, tls=True).send(TODAY - 1) == 0


def test_dns_that_does_not_answer_sends_nothing_rather_than_wrongly(house: House) -> None:
    house.verdict("a@x.test")
    house.dns.add("_dmarc.monitor.test TXT", TimeoutError)
    assert house.post(dmarc=True).send(TODAY - 1) <= 1


def test_records_and_destinations() -> None:
    dns = FakeResolver({**ZONE, "_dmarc.a.b.test TXT": "v=DMARC1; p=none; psd=n"})
    where = published(dns, "deep.mail.x.test")
    assert where is not None and (where.domain, where.organisation) == ("x.test", "x.test")
    assert [str(to) for to, _ in destinations(dns, where)] == ["dmarc@x.test", "agg@monitor.test"]
    assert organisational_domain(dns, "c.a.b.test") == "a.b.test"
    assert published(dns, "nothing.example") is None
    assert mailto("mailto:a@b.test!10m") == (Address.parse("a@b.test"), 10 << 20)
    assert mailto("https://b.test/") is None and mailto("mailto:@@") is None


def test_days_are_utc() -> None:
    assert datetime.datetime.fromtimestamp(TODAY * DAY, datetime.UTC).hour == 0
