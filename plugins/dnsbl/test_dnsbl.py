"""The dnsbl check: what lists say, what their codes mean, and which of them are believed."""

from __future__ import annotations

import time
from typing import Any

import pytest

import mailguard_dnsbl
from mailguard.plugin import Answer, DnsTemporaryError, Finding
from mailguard.testing import FakeResolver, Harness, make_envelope, make_message, make_session, run_check

CLIENT = make_session("8.8.4.4")
WELL = {"2.0.0.127.bl.example A": "127.0.0.2"}


def check(zone: dict[str, Any], *lists: dict[str, Any], **options: Any) -> Finding:
    given = lists or ({"zone": "bl.example"},)
    finding = run_check(mailguard_dnsbl, dns=zone, session=CLIENT, options={"lists": given, **options})
    assert finding is not None
    return finding


def test_listed_with_the_points_and_meaning_of_its_code() -> None:
    codes = {"127.0.0.4": {"points": 3.5, "meaning": "an open proxy"}, "127.0.0.5": {"points": 1}}
    zone = {**WELL, "4.4.8.8.bl.example A": ["127.0.0.5", "127.0.0.4"]}
    finding = check(zone, {"zone": "bl.example", "codes": codes})
    assert (finding.word, finding.points) == ("listed", 3.5)
    assert finding.reason == "bl.example calls it an open proxy"
    assert finding.facts["lists"] == {"bl.example": "127.0.0.4"}


def test_unknown_codes_have_the_points_of_the_list_or_none() -> None:
    zone = {**WELL, "4.4.8.8.bl.example A": "127.0.0.9"}
    assert check(zone).points == 2
    finding = check(zone, {"zone": "bl.example", "points": 0})
    assert (finding.word, finding.points) == ("clean", 0)


@pytest.mark.parametrize(
    ("zone", "word", "why"),
    [
        (
            {"4.4.8.8.bl.example A": "127.0.0.2", **WELL, "1.0.0.127.bl.example A": "127.0.0.2"},
            "temperror",
            "everybody",
        ),
        ({"4.4.8.8.bl.example A": "127.0.0.2"}, "temperror", "its own test entry"),
        ({"4.4.8.8.bl.example A": "127.255.255.254", **WELL}, "temperror", "resolver of our own"),
        ({"4.4.8.8.bl.example A": TimeoutError}, "temperror", "does not answer now"),
        ({"4.4.8.8.bl.example A": "203.0.113.9", **WELL}, "clean", ""),
        ({}, "clean", ""),
    ],
)
def test_only_healthy_lists_are_believed(zone: dict[str, Any], word: str, why: str) -> None:
    finding = check(zone)
    assert (finding.word, finding.points) == (word, 0)
    assert why in finding.detail


class Slow(FakeResolver):
    """Silent about one list: takes all the time that it is given."""

    def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> Answer:
        assert timeout is not None
        if "silent" in name:
            time.sleep(timeout)
            raise DnsTemporaryError(name)
        return super().query(name, rdtype)


def test_a_silent_list_takes_no_more_than_its_share_of_the_deadline() -> None:
    dns = Slow({**WELL, "4.4.8.8.bl.example A": "127.0.0.2"})
    options = {"lists": [{"zone": "silent.example"}, {"zone": "bl.example"}]}
    with Harness(mailguard_dnsbl, dns=dns, options=options) as harness:
        object.__setattr__(harness.ctx, "deadline", 3.0)
        finding = harness.check(session=CLIENT)
    assert finding is not None
    assert (finding.word, finding.facts["ill"]) == ("listed", ["silent.example"])


def test_a_dead_list_does_not_silence_the_others() -> None:
    zone = {**WELL, "4.4.8.8.bl.example A": "127.0.0.2", "4.4.8.8.dead.example A": TimeoutError}
    finding = check(zone, {"zone": "dead.example"}, {"zone": "bl.example"})
    assert finding.word == "listed"
    assert "dead.example left out" in finding.detail
    assert finding.facts["ill"] == ["dead.example"]


def test_good_lists_speak_for_the_sender() -> None:
    zone = {"4.4.8.8.list.dnswl.org A": "127.0.5.2"}
    finding = check(zone, {"zone": "list.dnswl.org", "kind": "allow"})
    assert (finding.word, finding.points) == ("allowed", -2)
    assert finding.auth[0].method == "dnswl"
    assert finding.auth[0].properties == (("dns", "zone", "list.dnswl.org"), ("policy", "ip", "127.0.5.2"))


def test_domains_are_asked_as_they_are() -> None:
    zone = {
        "test.dbl.example A": "127.0.1.2",
        "example.net.dbl.example A": "127.0.1.2",
        "bad.example.dbl.example A": "127.0.1.3",
    }
    lists = ({"zone": "dbl.example", "ask": "from", "points": 4}, {"zone": "dbl.example.", "ask": "mail_from"})
    dns = FakeResolver(zone)
    finding = run_check(
        mailguard_dnsbl,
        dns=dns,
        envelope=make_envelope("x@bad.example"),
        message=make_message(sender="Al <al@example.net>"),
        options={"lists": lists},
    )
    assert finding is not None
    assert finding.points == 6


def test_ipv6_addresses_are_asked_nibble_by_nibble() -> None:
    dns = FakeResolver()
    session = make_session("2600:1::1")
    run_check(mailguard_dnsbl, dns=dns, session=session, options={"lists": [{"zone": "bl.example"}]})
    assert dns.asked[0][0].startswith("1.0.0.0.")
    assert dns.asked[0][0].endswith(".6.2.bl.example")


@pytest.mark.parametrize("ip", ["10.0.0.1", "127.0.0.1", "fe80::1", "192.168.1.1"])
def test_private_addresses_and_our_own_users_are_not_asked_about(ip: str) -> None:
    options = {"lists": [{"zone": "bl.example"}]}
    assert run_check(mailguard_dnsbl, session=make_session(ip), options=options) is None
    assert run_check(mailguard_dnsbl, session=make_session("8.8.4.4", user="a@example.org"), options=options) is None


def test_at_the_greeting() -> None:
    zone = {**WELL, "4.4.8.8.bl.example A": "127.0.0.2"}
    options = {"lists": [{"zone": "bl.example"}], "at": "client"}
    finding = run_check(mailguard_dnsbl, dns=zone, session=CLIENT, options=options, hook="check_client")
    assert finding is not None
    assert finding.word == "listed"
    assert run_check(mailguard_dnsbl, dns=zone, session=CLIENT, options=options, hook="check_message") is None


def test_the_well_known_codes() -> None:
    zen = mailguard_dnsbl.DnsList(zone="zen.spamhaus.org")
    meaning = zen.code("127.0.0.10")
    assert meaning is not None
    assert "should not send mail" in meaning.meaning
