"""The records that we ask for, and the verdict on what is published."""

from __future__ import annotations

import pytest

from mailguard.delivery.dnscheck import State, check, judge
from mailguard.net.resolver import Answer, DnsTemporaryError
from mailguard.protocol.autoconfig.records import Plan, Record, certificate_names, nsupdate_lines, records, zone_line
from mailguard.protocol.autoconfig.request import Provider, Security, Service

PROVIDER = Provider(
    "office.test",
    "mail.office.test",
    "Office",
    (Service("imap", 993, Security.IMPLICIT), Service("imap", 143, Security.STARTTLS),
     Service("smtp", 465, Security.IMPLICIT), Service("smtp", 587, Security.STARTTLS)),
    "https://mail.office.test",
)  # fmt: skip
DKIM = (("mg1r", "v=DKIM1; k=rsa; p=" + "A" * 400),)
PLAN = Plan(PROVIDER, ("192.0.2.10", "2001:db8::10"), DKIM, sts_id="20260801", pacc=True)


class Published:
    """A resolver that knows these records and no others."""

    def __init__(self, *known: Record, dead: bool = False) -> None:
        self.known: dict[tuple[str, str], list[str]] = {}
        self.dead = dead
        for record in known:
            self.known.setdefault((record.name, record.type), []).append(record.data)

    def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> Answer:
        if self.dead:
            raise DnsTemporaryError("time-out")
        return Answer(tuple(self.known.get((name, rdtype), ())))


def test_everything_published_is_ok() -> None:
    wanted = records(PLAN)
    assert [c.record.name for c in check(Published(*wanted), wanted) if c.state is not State.OK] == []


def test_nothing_published_names_each_record() -> None:
    wanted = records(PLAN)
    found = check(Published(), wanted)
    assert {c.record.type for c in found if c.failed} == {"A", "AAAA", "PTR", "MX", "TXT"}
    assert all(c.cure for c in found if c.state is not State.OK)


def test_a_dead_resolver_is_unknown_not_missing() -> None:
    assert {c.state for c in check(Published(dead=True), records(PLAN))} == {State.UNKNOWN}


@pytest.mark.parametrize(
    ("type", "data", "found", "state"),
    [
        ("MX", "10 mail.office.test", ["0 ."], State.DANGEROUS),
        ("MX", "10 mail.office.test", ["10 other.test"], State.DANGEROUS),
        ("MX", "10 mail.office.test", ["5 mail.office.test"], State.OK),
        ("MX", "10 mail.office.test", ["5 mail.office.test", "9 other.test"], State.DIFFERENT),
        ("TXT", "v=spf1 mx -all", ["v=spf1 mx -all", "v=spf1 -all"], State.DANGEROUS),
        ("TXT", "v=spf1 mx -all", ["google-site=1", "v=spf1 mx include:x.test ~all"], State.OK),
        ("TXT", "v=spf1 mx -all", ["v=spf1 mx +all"], State.DANGEROUS),
        ("TXT", "v=spf1 mx -all", ["v=spf1 a -all"], State.DIFFERENT),
        ("TXT", "v=spf1 mx -all", ["v=spf1 mx " + "include:x.test " * 11], State.DANGEROUS),
        ("TXT", "v=DKIM1; k=rsa; p=AAAA", ["v=DKIM1; k=rsa; t=s; p=AA AA"], State.OK),
        ("TXT", "v=DKIM1; k=rsa; p=AAAA", ["v=DKIM1; p=BBBB"], State.DANGEROUS),
        ("TXT", "v=DMARC1; p=none; rua=mailto:a@b.test", ["v=DMARC1; p=reject"], State.OK),
        ("SRV", "0 0 0 .", [], State.OK),
        ("SRV", "0 1 993 mail.office.test", ["0 1 993 mail.office.test"], State.OK),
        ("A", "192.0.2.10", ["192.0.2.11"], State.DIFFERENT),
    ],
)
def test_verdicts(type: str, data: str, found: list[str], state: State) -> None:
    assert judge(Record("office.test", type, data, ""), found).state is state


def test_an_address_instead_of_a_cname_will_do() -> None:
    known = [Record("mail.office.test", "A", "192.0.2.10", ""), Record("autoconfig.office.test", "A", "192.0.2.10", "")]
    (found,) = check(Published(*known), [Record("autoconfig.office.test", "CNAME", "mail.office.test", "")])
    assert found.state is State.OK


def test_zone_lines() -> None:
    lines = [zone_line(record) for record in records(PLAN)]
    (dkim,) = [line for line in lines if "_domainkey" in line]
    assert all(len(text) <= 255 for text in dkim.split('"')[1::2])
    (mx,) = [line for line in lines if " MX " in line]
    assert mx.endswith("10 mail.office.test.")
    assert "0 0 0 ." in next(line for line in lines if line.startswith("_imap."))
    assert "0 1 993 mail.office.test." in next(line for line in lines if line.startswith("_imaps."))
    assert not any("PTR" in line for line in nsupdate_lines(records(PLAN)))


def test_the_zone_is_read_by_dnspython() -> None:
    import dns.rdatatype
    import dns.zone

    text = "$TTL 60\n@ IN SOA ns.office.test. h.office.test. 1 1 1 1 1\n@ IN NS ns.office.test.\n"
    text += "\n".join(zone_line(r) for r in records(PLAN) if r.type != "PTR") + "\n"
    zone = dns.zone.from_text(text, origin="office.test.", relativize=False)
    assert len(list(zone.iterate_rdatas(dns.rdatatype.SRV))) == 7


def test_certificate_names() -> None:
    assert certificate_names(PROVIDER, sts=True, with_pacc=False) == [
        "mail.office.test", "autoconfig.office.test", "autodiscover.office.test", "mta-sts.office.test"]  # fmt: skip
