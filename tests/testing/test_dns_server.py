"""The test kit's DNS server, asked by mailguard's own resolver."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from mailguard.net.resolver import DnsResolver, DnsTemporaryError
from mailguard.net.settings import DnsSettings
from mailguard.testing import DnsServer

ZONE = """
    example.net.        SOA  ns.example.net. hostmaster.example.net. 1 3600 600 86400 7
    example.net.        MX   10 mx.example.net.
    example.net.        MX   20 mx2.example.net.
    mx.example.net.     A    192.0.2.1
    mx.example.net.     300 IN AAAA 2001:db8::1
    deep.below.example. A    192.0.2.2
    alias.example.net.  CNAME mx.example.net.
    *.example.net.      TXT  "wild" "card"
"""


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as server:
        yield server


def resolver(server: DnsServer, **more: object) -> DnsResolver:
    settings = {"nameservers": (server.nameserver,), "timeout": 2, "cache_size": 0, **more}
    return DnsResolver(DnsSettings.model_validate(settings))


def test_records_aliases_and_wildcards(server: DnsServer) -> None:
    ask = resolver(server).query
    assert sorted(ask("EXAMPLE.net", "MX").records) == ["10 mx.example.net", "20 mx2.example.net"]
    assert ask("mx.example.net", "AAAA").ttl == 300
    assert ask("alias.example.net", "A").records == ("192.0.2.1",)
    assert ask("any.thing.example.net", "TXT").records == ("wildcard",)
    assert {transport for *_, transport in server.questions} == {"udp"}
    assert server.questions[0] == ("example.net", "MX", "udp")


def test_no_such_name_and_no_such_record_differ(server: DnsServer) -> None:
    ask = resolver(server).query
    missing = ask("elsewhere.example", "A")
    assert (missing.exists, missing.records, missing.ttl) == (False, (), 1)
    assert ask("mx.example.net", "MX").exists
    assert ask("below.example", "A").exists  # a name above a record


def test_faults_come_and_go(server: DnsServer) -> None:
    ask = resolver(server, timeout=0.3).query
    server.fail("example.net", "MX")
    with pytest.raises(DnsTemporaryError):
        ask("example.net", "MX")
    assert ask("example.net", "TXT").exists
    server.fail("example.net", rcode="REFUSED")
    with pytest.raises(DnsTemporaryError):
        ask("example.net", "TXT")
    server.silence("mx.example.net")
    with pytest.raises(DnsTemporaryError):
        ask("mx.example.net", "A")
    server.mend()
    assert ask("example.net", "MX").records
    server.dead = True
    with pytest.raises(DnsTemporaryError):
        ask("example.net", "MX")


def test_what_does_not_fit_is_asked_again_over_tcp(server: DnsServer) -> None:
    server.add("\n".join(f'big.example. TXT "{n:03} {"x" * 200}"' for n in range(40)))
    ask = resolver(server).query
    assert len(ask("big.example", "TXT").records) == 40
    assert [transport for *_, transport in server.questions] == ["udp", "tcp"]
    server.truncate = True
    assert ask("mx.example.net", "A").records == ("192.0.2.1",)
    assert server.questions[-1][2] == "tcp"


def test_records_change_while_it_runs(server: DnsServer) -> None:
    ask = resolver(server).query
    server.add("mx A 192.0.2.9", origin="example.net.")
    assert ask("mx.example.net", "A").records == ("192.0.2.9",)
    server.remove("example.net", "MX")
    assert ask("example.net", "MX").records == ()
    assert not ask("example.net", "MX").authentic
    server.authentic = True
    assert resolver(server, validating=True).query("mx.example.net", "A").authentic


def test_nonsense_is_told_or_dropped(server: DnsServer) -> None:
    with pytest.raises(ValueError, match="not a zone"):
        server.add("example.net. MX ten mx.example.net.")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"nonsense", ("127.0.0.1", server.port))
    assert resolver(server).query("mx.example.net", "A").records
