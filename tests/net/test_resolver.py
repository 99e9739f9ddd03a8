"""The caching resolver against a real server on loopback: answers, failures, silence, many at once."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import dns.exception
import dns.reversename
import pytest

from mailguard.net import dnsclient
from mailguard.net.resolver import Answer, DnsResolver, DnsTemporaryError, ask_all, reverse_name
from mailguard.net.settings import DnsSettings
from mailguard.testing import DnsServer, FakeResolver

ZONE = """
example.net.        300 MX   10 MX1.example.net.
example.net.        300 MX   20 mx2.example.net.
example.net.        60  TXT  "v=spf1 " "-all"
null.example.       MX   0 .
mx1.example.net.    A    192.0.2.1
mx1.example.net.    AAAA 2001:db8::1
www.example.net.    120 CNAME alias.example.net.
alias.example.net.  30  CNAME mx1.example.net.
_imaps._tcp.example.net. SRV 0 1 993 mail.example.net.
_25._tcp.mx1.example.net. TLSA 3 1 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff
9.2.0.192.in-addr.arpa. PTR Mail.Example.net.
odd.example.net.    PTR  we\\.ird.example.net.
"""


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as made:
        yield made


def resolver(*servers: str, **settings: object) -> DnsResolver:
    return DnsResolver(DnsSettings.model_validate({"nameservers": servers, **settings}))


def closed_port() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{sock.getsockname()[1]}"


@pytest.mark.parametrize(
    ("name", "rdtype", "records"),
    [
        ("Example.NET.", "MX", {"10 mx1.example.net", "20 mx2.example.net"}),
        ("null.example", "MX", {"0 ."}),
        ("example.net", "TXT", {"v=spf1 -all"}),
        ("mx1.example.net", "A", {"192.0.2.1"}),
        ("mx1.example.net", "AAAA", {"2001:db8::1"}),
        ("www.example.net", "A", {"192.0.2.1"}),
        ("www.example.net", "CNAME", {"alias.example.net"}),
        ("_imaps._tcp.example.net", "SRV", {"0 1 993 mail.example.net"}),
        ("9.2.0.192.in-addr.arpa", "PTR", {"mail.example.net"}),
        ("odd.example.net", "PTR", {"we\\.ird.example.net"}),
        ("mx1.example.net", "MX", set()),
    ],
)
def test_records_in_the_form_of_zone_files(server: DnsServer, name: str, rdtype: str, records: set[str]) -> None:
    answer = resolver(server.nameserver).query(name, rdtype)
    assert set(answer.records) == records and answer.exists


def test_rare_types_are_read_by_dnspython(server: DnsServer) -> None:
    (record,) = resolver(server.nameserver).query("_25._tcp.mx1.example.net", "TLSA").records
    assert record.startswith("3 1 1 001122")


def test_time_to_live_is_the_least_on_the_way(server: DnsServer) -> None:
    asker = resolver(server.nameserver)
    assert asker.query("example.net", "MX").ttl == 300
    assert asker.query("www.example.net", "A").ttl == 30
    assert asker.query("gone.example.net", "A") == Answer((), exists=False, ttl=1)


def test_what_cannot_be_does_not_exist(server: DnsServer) -> None:
    asker = resolver(server.nameserver)
    for name in (f"{'a' * 64}.example", "a..example", ".".join(["a" * 60] * 5)):
        assert not asker.query(name, "A").exists
    assert server.questions == []
    assert asker.query("", "NS").records == ()


def test_answers_are_remembered_and_those_at_hand_are_not_asked_for(server: DnsServer) -> None:
    asker = resolver(server.nameserver)
    assert asker.at_hand("example.net", "TXT") is None
    assert (
        asker.query("example.net", "TXT") is asker.query("EXAMPLE.net.", "TXT") is asker.at_hand("example.net", "TXT")
    )
    assert len(server.questions) == 1
    forgetful = resolver(server.nameserver, cache_size=0)
    forgetful.query("example.net", "TXT")
    forgetful.query("example.net", "TXT")
    assert len(server.questions) == 3
    small = resolver(server.nameserver, cache_size=1)
    small.query("example.net", "TXT")
    small.query("example.net", "MX")
    assert small.at_hand("example.net", "TXT") is None and small.at_hand("example.net", "MX")


def test_failures_are_temporary_and_remembered(server: DnsServer) -> None:
    server.fail("example.net", "TXT")
    asker = resolver(server.nameserver)
    for _ in range(3):
        with pytest.raises(DnsTemporaryError, match=r"example\.net TXT: SERVFAIL"):
            asker.query("example.net", "TXT")
    with pytest.raises(DnsTemporaryError):
        asker.at_hand("example.net", "TXT")
    assert len(server.questions) == 1
    assert asker.query("example.net", "MX").records
    again = resolver(server.nameserver, failure_ttl=0)
    for _ in range(2):
        with pytest.raises(DnsTemporaryError):
            again.query("example.net", "TXT")
    server.mend()
    assert again.query("example.net", "TXT").records


def test_another_server_is_asked_where_one_fails(server: DnsServer) -> None:
    with DnsServer(ZONE) as broken:
        broken.fail("example.net", "TXT")
        assert resolver(broken.nameserver, server.nameserver).query("example.net", "TXT").records
    assert resolver(closed_port(), server.nameserver).query("example.net", "MX").records


def test_nobody_there_ends_at_once() -> None:
    with pytest.raises(DnsTemporaryError):
        resolver(closed_port(), timeout=60).query("example.net", "A")


def test_a_long_answer_comes_over_tcp(server: DnsServer) -> None:
    server.truncate = True
    assert resolver(server.nameserver).query("example.net", "TXT").records == ("v=spf1 -all",)
    assert {how for _, _, how in server.questions} == {"udp", "tcp"}


def test_many_questions_at_once(server: DnsServer) -> None:
    server.fail("example.net", "TXT")
    asker = resolver(server.nameserver)
    questions = [("example.net", "MX"), ("gone.example.net", "A"), ("example.net", "TXT"), ("example.net", "MX")]
    first, second, third, fourth = asker.query_all(questions)
    assert isinstance(first, Answer) and len(first.records) == 2 and fourth is first
    assert isinstance(second, Answer) and not second.exists
    assert isinstance(third, DnsTemporaryError)
    assert len(server.questions) == 3
    assert ask_all(asker, [("mx1.example.net", "A")]) == [asker.query("mx1.example.net", "A")]
    fake = FakeResolver({"a.example A": "192.0.2.7", "b.example A": TimeoutError})
    one, two = ask_all(fake, [("a.example", "A"), ("b.example", "A")])
    assert isinstance(one, Answer) and isinstance(two, DnsTemporaryError)


def test_the_same_question_of_many_threads_is_asked_once(server: DnsServer) -> None:
    asker, start, found = resolver(server.nameserver), threading.Barrier(8), list[Answer]()

    def ask() -> None:
        start.wait()
        found.append(asker.query("example.net", "MX"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(server.questions) == 1


def test_silence_is_remembered_when_it_was_waited_for(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.dead = True
    asker = resolver(server.nameserver)
    with pytest.raises(DnsTemporaryError, match="no answer within"):
        asker.query("example.net", "MX", timeout=0.05)
    assert asker.at_hand("example.net", "MX") is None  # too short a time to say anything
    monkeypatch.setattr("mailguard.net.resolver._PATIENT", -1.0)
    with pytest.raises(DnsTemporaryError):
        asker.query("example.net", "MX", timeout=0.05)
    with pytest.raises(DnsTemporaryError):
        asker.at_hand("example.net", "MX")


def test_servers_that_never_answer_get_little_time_until_one_does(
    server: DnsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dnsclient, "BRIEF", 0.01)
    monkeypatch.setattr(dnsclient, "PATIENCE", 0.01)
    server.dead = True
    client = dnsclient.DnsClient([dnsclient.Server.at("127.0.0.1", int(server.nameserver.rpartition(":")[2]))])
    for _ in range(dnsclient.SILENCES):
        assert client.ask([("example.net", "A")], 0.05)[0].silent
    before = len(server.questions)
    (asked,) = client.ask([("example.net", "A")], 600)
    assert asked.silent and len(server.questions) - before <= 2
    server.dead = False
    monkeypatch.setattr(dnsclient, "BRIEF", 30.0)
    monkeypatch.setattr(dnsclient, "PATIENCE", 30.0)
    assert client.ask([("mx1.example.net", "A")], 30)[0].found
    assert client._silences == 0


@pytest.mark.parametrize("address", ["192.0.2.1", "8.8.8.8", "255.1.0.10", "2001:db8::1", "::1", "::ffff:192.0.2.1"])
def test_reverse_names_are_those_of_dnspython(address: str) -> None:
    assert reverse_name(address) == dns.reversename.from_address(address).to_text().rstrip(".")


def test_what_is_no_address_has_no_reverse_name() -> None:
    with pytest.raises(dns.exception.SyntaxError):
        reverse_name("local")
