"""The records that we ask for, and the verdict on what is published."""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence

import pytest

from mailguard.delivery.dnscheck import BoundResolver, Checked, State, check
from mailguard.delivery.dnscheck_settings import DnsCheckSettings
from mailguard.delivery.dnsjudge import compare, judge
from mailguard.delivery.dnsquestions import Office, questions
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
PUBLIC = ("192.0.2.10", "2001:db8::10")
PLAN = Plan(PROVIDER, PUBLIC, DKIM, sts_id="20260801", pacc=True)


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


def office(*, public: Sequence[str] = PUBLIC) -> Office:
    settings = DnsCheckSettings(reach="", blocklists=("bl.test",))
    return Office(
        "mail.office.test",
        [PLAN],
        public,
        settings,
        lambda name: None,
        lambda address: True,
        ssl.create_default_context(),
    )


def ask(resolver: Published, wanted: Sequence[Record]) -> list[Checked]:
    """The verdicts on these records."""
    found = [q for q in questions(office(), None) if q.record in wanted]
    assert len(found) == len(wanted)
    return check(resolver, found)


def test_everything_published_is_ok() -> None:
    wanted = records(PLAN)
    assert [c.subject for c in ask(Published(*wanted), wanted) if c.state is not State.OK] == []


def test_nothing_published_names_each_record() -> None:
    wanted = records(PLAN)
    found = ask(Published(), wanted)
    assert {c.subject.split()[1] for c in found if c.failed} == {"A", "AAAA", "PTR", "MX", "TXT"}
    assert all(c.cure for c in found if c.state is not State.OK)


def test_a_dead_resolver_is_unknown_not_missing() -> None:
    assert {c.state for c in ask(Published(dead=True), records(PLAN))} == {State.UNKNOWN}


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
        ("TXT", "v=spf1 mx -all", ["v=spf1 ip4:198.51.100.1 -all"], State.DIFFERENT),
        ("TXT", "v=DKIM1; k=rsa; p=AAAA", ["v=DKIM1; k=rsa; t=s; p=AA AA"], State.OK),
        ("TXT", "v=DKIM1; k=rsa; p=AAAA", ["v=DKIM1; p=BBBB"], State.DANGEROUS),
        ("TXT", "v=DMARC1; p=none; rua=mailto:a@b.test", ["v=DMARC1; p=reject"], State.DIFFERENT),
        ("SRV", "0 0 0 .", [], State.OK),
        ("SRV", "0 1 993 mail.office.test", ["0 1 993 mail.office.test"], State.OK),
        ("A", "192.0.2.10", ["192.0.2.11"], State.DIFFERENT),
        ("TXT", "v=spf1 mx -all", ["v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"], State.OK),
        ("TXT", "v=spf1 mx -all", ["v=spf1 ip4:192.0.2.0/24 -all"], State.DIFFERENT),
        ("TXT", "v=DMARC1; p=none; rua=mailto:a@b.test", ["v=DMARC1; p=reject; rua=mailto:c@d.test"], State.OK),
        ("TXT", "v=DMARC1; p=none; rua=mailto:a@b.test", ["v=DMARC1; p=strict; rua=mailto:a@b.test"], State.DANGEROUS),
        ("TXT", "v=STSv1; id=2", ["v=STSv1; id=1;"], State.DIFFERENT),
        ("TXT", "v=TLSRPTv1; rua=mailto:a@b.test", ["v=TLSRPTv1;rua=mailto:other@b.test"], State.OK),
        ("CAA", '0 issue "letsencrypt.org"', ['0 issue "letsencrypt.org; accounturi=https://x"'], State.OK),
        ("CAA", '0 issue "letsencrypt.org"', ['0 issue "other.example"'], State.DANGEROUS),
        ("CAA", '0 issue "letsencrypt.org"', ['0 iodef "mailto:a@b.test"'], State.OK),
        ("TLSA", "3 1 1 ab", ["3 1 1 cd"], State.DANGEROUS),
        ("TLSA", "3 1 1 ab", ["3 1 1 cd", "3 1 1 AB"], State.OK),
    ],
)
def test_verdicts(type: str, data: str, found: list[str], state: State) -> None:
    assert judge(Record("office.test", type, data, ""), found, addresses=PUBLIC).state is state


def test_an_address_instead_of_a_cname_will_do() -> None:
    known = [Record("mail.office.test", "A", "192.0.2.10", ""), Record("autoconfig.office.test", "A", "192.0.2.10", "")]
    (wanted,) = [record for record in records(PLAN) if record.name == "autoconfig.office.test"]
    (found,) = ask(Published(*known), [wanted])
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


class Hanging:
    """A resolver that keeps everybody waiting."""

    asked = 0

    def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> Answer:
        self.asked += 1
        time.sleep(timeout or 60)
        raise DnsTemporaryError("time-out")


def test_a_resolver_that_hangs_costs_the_deadline_and_no_more() -> None:
    hanging, began = Hanging(), time.monotonic()
    found = check(hanging, questions(office(), None), deadline=0.3)
    assert time.monotonic() - began < 2
    assert all(c.state is State.UNKNOWN for c in found if c.record)


def test_a_dead_resolver_is_given_up_early() -> None:
    resolver = BoundResolver(Published(dead=True), 5)
    for _ in range(6):
        with pytest.raises(DnsTemporaryError, match="time-out"):
            resolver.query("a.test", "A")
    with pytest.raises(DnsTemporaryError, match="answers nothing at all"):
        resolver.query("a.test", "A")


def _seen(state: State) -> Checked:
    return Checked("x TXT", state, ("old",), "publish")


def test_the_domains_own_servers_are_believed_over_a_cache() -> None:
    fine, other = _seen(State.OK), Checked("x TXT", State.DIFFERENT, ("older",))
    assert "until its cache forgets" in compare(_seen(State.MISSING), {"ns1": fine, "ns2": fine}).cure
    behind = compare(fine, {"ns1": fine, "ns2": other})
    assert behind.state is State.DIFFERENT and "ns2 answers otherwise (older)" in behind.cure
    assert compare(_seen(State.MISSING), {"ns1": fine, "ns2": other}).cure == "publish"
    assert compare(fine, {}) is fine


def test_one_update_for_each_zone() -> None:
    other = Record("club.test", "MX", "10 mail.office.test", "")
    lines = nsupdate_lines([*records(PLAN)[:4], other], ["office.test", "club.test"])
    assert lines.count("send") == 2 and lines[-1] == "send"
    assert lines[lines.index("send") + 1] == "update delete club.test. MX"
    assert lines.index("update add mail.office.test. 3600 A 192.0.2.10") < lines.index("send")
