"""The DMARC check: every branch of the tree walk, alignment and the choice of policy (RFC 9989)."""

from __future__ import annotations

from typing import Any

import pytest

import mailguard_dmarc as dmarc
from mailguard.plugin import Finding, dmarc_walk, organisational_domain
from mailguard.testing import FakeResolver, make_envelope, make_message, run_check

REJECT = {"_dmarc.example.net TXT": "v=DMARC1; p=reject"}


def check(zone: dict[str, Any], sender: str = "a@example.net", **found: Any) -> Finding:
    spf, dkim = found.get("spf", "none"), found.get("dkim", [])
    findings = {
        "spf": Finding(spf, facts={"domain": found.get("spf_domain", "example.net")}),
        "dkim": Finding("pass" if dkim else "none", facts={"passed": dkim}),
    }
    envelope = make_envelope(f"bounce@{found.get('spf_domain', 'example.net')}")
    finding = run_check(dmarc, dns=zone, message=make_message(sender=sender), envelope=envelope, findings=findings)
    assert finding is not None
    return finding


@pytest.mark.parametrize(
    ("found", "word"),
    [
        ({}, "reject"),
        ({"spf": "pass"}, "pass"),
        ({"spf": "pass", "spf_domain": "mail.example.net"}, "pass"),
        ({"spf": "pass", "spf_domain": "other.test"}, "reject"),
        ({"spf": "softfail"}, "reject"),
        ({"dkim": ["example.net"]}, "pass"),
        ({"dkim": ["news.example.net"]}, "pass"),
        ({"dkim": ["other.test", "other.net"]}, "reject"),
        ({"spf": "temperror"}, "temperror"),
    ],
)
def test_alignment(found: dict[str, Any], word: str) -> None:
    assert check(REJECT, **found).word == word


def test_a_trusted_forwarder_counts_for_the_author_it_saw() -> None:
    arc = Finding("trusted", facts={"by": "list.example", "from_domain": "example.net"})
    for found, word in (
        (arc, "forwarded"),
        (Finding("pass", facts=arc.facts), "reject"),
        (Finding("trusted", facts={"by": "list.example", "from_domain": "other.test"}), "reject"),
    ):
        finding = run_check(dmarc, dns=REJECT, findings={"arc": found})
        assert finding is not None
        assert finding.word == word
        assert finding.auth[0].result == "fail"


def test_strict_alignment_wants_the_very_domain() -> None:
    zone = {"_dmarc.example.net TXT": "v=DMARC1; p=reject; adkim=s; aspf=s"}
    assert check(zone, dkim=["news.example.net"]).word == "reject"
    assert check(zone, spf="pass", spf_domain="mail.example.net").word == "reject"
    assert check(zone, dkim=["example.net"]).word == "pass"


@pytest.mark.parametrize(
    ("record", "author", "word"),
    [
        ("v=DMARC1; p=none", "example.net", "fail"),
        ("v=DMARC1; p=quarantine", "example.net", "quarantine"),
        ("v=DMARC1; p=reject; t=y", "example.net", "quarantine"),
        ("v=DMARC1; p=quarantine; t=y", "example.net", "fail"),
        ("v=DMARC1; p=reject; sp=none", "there.example.net", "fail"),
        ("v=DMARC1; p=none; np=reject", "nowhere.example.net", "reject"),
        ("v=DMARC1; p=none; np=reject", "there.example.net", "fail"),
        ("v=DMARC1; p=nonsense; rua=mailto:x@example.net", "example.net", "fail"),
        ("v=DMARC1; p=nonsense", "example.net", "none"),
        ("v=DMARC1;p=reject;pct=0", "example.net", "reject"),
        ("v=spf1 -all", "example.net", "none"),
        (["v=DMARC1; p=reject", "v=DMARC1; p=none"], "example.net", "none"),
    ],
)
def test_the_policy_chosen(record: Any, author: str, word: str) -> None:
    zone = {"_dmarc.example.net TXT": record, "there.example.net A": "192.0.2.1"}
    assert check(zone, f"a@{author}").word == word


@pytest.mark.parametrize(
    ("records", "domain", "organisation"),
    [
        ({}, "a.b.example.net", "a.b.example.net"),
        ({"example.net": "p=none"}, "a.b.example.net", "example.net"),
        ({"b.example.net": "psd=n; p=none", "example.net": "p=none"}, "a.b.example.net", "b.example.net"),
        ({"net": "psd=y; p=none"}, "a.b.example.net", "example.net"),
        ({"example.net": "psd=y; p=none"}, "example.net", "example.net"),
        ({"a.b.example.net": "p=none", "example.net": "p=none"}, "a.b.example.net", "example.net"),
    ],
)
def test_the_organisational_domain(records: dict[str, str], domain: str, organisation: str) -> None:
    zone = {f"_dmarc.{name} TXT": f"v=DMARC1; {text}" for name, text in records.items()}
    assert organisational_domain(FakeResolver(zone), domain) == organisation


def test_the_walk_asks_at_most_eight_names() -> None:
    names = list(dmarc_walk("a.b.c.d.e.f.g.h.i.example.net"))
    assert names[:2] == ["a.b.c.d.e.f.g.h.i.example.net", "e.f.g.h.i.example.net"]
    assert (len(names), names[-1]) == (8, "net")


def test_a_public_suffix_speaks_for_domains_without_a_record() -> None:
    assert check({"_dmarc.net TXT": "v=DMARC1; p=reject; psd=y; sp=quarantine"}).word == "quarantine"


def test_a_message_needs_one_author_domain() -> None:
    two = "a@example.net, b@other.test"
    assert check(REJECT, two).word == "permerror"
    assert check(REJECT, "nobody").word == "permerror"
    assert check({"_dmarc.example.net TXT": TimeoutError}).word == "temperror"
