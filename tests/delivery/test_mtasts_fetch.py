"""MTA-STS over real HTTPS: the policy fetched from a local host that a real DNS server names, cached and enforced."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import webhost
from pki import Authority

from mailguard.model.event import Deferred, Delivered
from mailguard.net.resolver import DnsResolver
from mailguard.net.settings import DnsSettings
from mailguard.state.stspolicy import sts_policy
from mailguard.testing import DnsServer

page: Callable[..., bytes] = webhost.page
ZONE = """
    x.test.           MX  10 mx.x.test.
    mx.x.test.        A   127.0.0.1
    mta-sts.x.test.   A   127.0.0.1
    _mta-sts.x.test.  1 IN TXT "v=STSv1; id=1"
"""


def policy(mx: str = "mx.x.test", mode: str = "enforce") -> str:
    return f"version: STSv1\r\nmode: {mode}\r\nmx: {mx}\r\nmax_age: 86400\r\n"


class Other:
    """The other side: its DNS, its web host, its mail server; and our house that trusts its authority."""

    def __init__(self, folder: Path, house: Any, peers: Any) -> None:
        self.authority = Authority(folder)
        self.dns = DnsServer(ZONE)
        self.web = webhost.WebHost(self.authority.issue("mta-sts.x.test").context, page(policy()))
        self.house, self.peers = house, peers
        house.queue_settings["keep_connection"] = 0
        house.dns = DnsResolver(DnsSettings(nameservers=(self.dns.nameserver,), timeout=2, cache_size=0))
        house.relay |= {"ca_file": str(self.authority.file), "mta_sts_port": self.web.port, "ipv6": False}

    def mail_server(self, *names: str, days: int = 9, tls: bool = True) -> Any:
        peer = self.peers(context=self.authority.issue(*names, days=days).context if tls else None)
        self.house.relay["port"] = peer.port
        return peer

    def outcome(self, kind: type) -> Any:
        self.house.put("u@x.test")
        self.house.start()
        return self.house.events.wait(kind)[0]

    def cached(self) -> list[Any]:
        with self.house.database.read() as connection:
            return list(connection.execute(sa.select(sts_policy)))

    def close(self) -> None:
        self.web.close()
        self.dns.close()


@pytest.fixture
def other(tmp_path: Path, house: Any, peers: Any) -> Iterator[Other]:
    other = Other(tmp_path, house, peers)
    yield other
    other.close()


def test_a_policy_is_fetched_kept_and_obeyed(other: Other) -> None:
    peer = other.mail_server("mx.x.test")
    other.outcome(Delivered)
    assert peer.messages
    (request,) = other.web.requests
    assert request.startswith("GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.x.test")
    (row,) = other.cached()
    assert (row.domain, row.policy_id, row.expires_at - row.fetched_at) == ("x.test", "1", 86400)
    other.house.put("v@x.test")
    other.house.events.wait(Delivered, 2)
    assert len(other.web.requests) == 1


@pytest.mark.parametrize(
    ("names", "days", "tls", "words"),
    [
        (("elsewhere.test",), 9, True, "does not hold (Hostname mismatch"),
        (("mx.x.test",), -1, True, "does not hold (certificate has expired"),
        (("mx.x.test",), 9, False, "does not offer TLS, which verify (MTA-STS) asks for"),
    ],
    ids=["other name", "expired", "no TLS"],
)
def test_what_does_not_hold_gets_no_mail(other: Other, names: Any, days: int, tls: bool, words: str) -> None:
    peer = other.mail_server(*names, days=days, tls=tls)
    assert words in other.outcome(Deferred).reply.text
    assert not peer.messages


def test_a_host_outside_the_policy_gets_no_mail(other: Other) -> None:
    peer = other.mail_server("mx.x.test")
    other.web.answer = page(policy("*.elsewhere.test"))
    assert "not among the mail servers in the MTA-STS policy of x.test" in other.outcome(Deferred).reply.text
    assert peer.connections == 0


@pytest.mark.parametrize(
    "answer",
    [
        page(policy("elsewhere.test"), kind="text/html"),
        page(policy("elsewhere.test"), status="404 Not Found"),
        page("", status="301 Moved", more="Location: https://mta-sts.x.test/other\r\n"),
        page(policy("elsewhere.test") + "#" * 65_536),
        page("version: STSv9\r\n"),
        b"nonsense\r\n\r\n",
        b"",
    ],
    ids=["media type", "404", "redirect", "too large", "version", "nonsense", "nothing"],
)
def test_what_is_no_policy_counts_as_none(other: Other, answer: bytes) -> None:
    other.mail_server("mx.x.test")
    other.web.answer = answer
    other.outcome(Delivered)
    assert len(other.web.requests) == 1 and not other.cached()


def test_the_web_hosts_certificate_must_hold(other: Other) -> None:
    other.mail_server("mx.x.test")
    other.web.context = other.authority.issue("www.x.test").context
    other.web.answer = page(policy("elsewhere.test"))
    other.outcome(Delivered)
    assert not other.web.requests and not other.cached()


def test_a_cached_policy_outlives_its_record_and_its_host(other: Other) -> None:
    other.mail_server("mx.x.test")
    other.outcome(Delivered)
    other.web.close()
    other.dns.remove("_mta-sts.x.test")
    other.dns.remove("mta-sts.x.test")
    other.dns.add("x.test. MX 10 bad.x.test.\nbad.x.test. A 127.0.0.1")
    other.house.put("v@x.test")
    assert "bad.x.test is not among" in other.house.events.wait(Deferred)[0].reply.text


def test_a_new_id_brings_a_new_policy(other: Other) -> None:
    other.mail_server("mx.x.test")
    other.outcome(Delivered)
    other.dns.add('_mta-sts.x.test. 1 TXT "v=STSv1; id=2"')
    other.web.answer = page(policy("elsewhere.test"))
    other.house.put("v@x.test")
    other.house.events.wait(Deferred)
    assert [row.policy_id for row in other.cached()] == ["2"]


@pytest.mark.parametrize("drip", [b"", b"HTTP/1.1 200 OK\r\n"], ids=["silent", "dripping"])
def test_a_web_host_that_never_ends_costs_its_deadline(other: Other, drip: bytes) -> None:
    over = threading.Event()

    def hang(sock: Any) -> None:
        sock.sendall(drip)
        while not over.wait(0.05) and drip:
            sock.sendall(b"X-More: and more\r\n")
        over.wait(20)

    other.web.answer = hang
    other.house.relay["timeout"] = {**other.house.relay["timeout"], "https": 1}
    other.mail_server("mx.x.test")
    try:
        other.outcome(Delivered)
    finally:
        over.set()
    assert len(other.web.requests) == 1
