"""What no single record tells: reverse names, block lists, mail hosts, SPF's cost, ports, certificates, policies."""

from __future__ import annotations

import datetime
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from mailguard.delivery import dnsprobe, dnsweb
from mailguard.delivery.dnscheck import State
from mailguard.net.tls import Certificate
from mailguard.testing import FakeResolver

NOW = datetime.datetime(2026, 8, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("zone", "state"),
    [
        ({"10.2.0.192.in-addr.arpa PTR": "mail.office.test", "mail.office.test A": "192.0.2.10"}, State.OK),
        ({"10.2.0.192.in-addr.arpa PTR": "host10.isp.test", "host10.isp.test A": "192.0.2.10"}, State.DIFFERENT),
        ({"10.2.0.192.in-addr.arpa PTR": "mail.office.test", "mail.office.test A": "192.0.2.99"}, State.DANGEROUS),
        ({}, State.MISSING),
    ],
)
def test_forward_confirmed(zone: dict[str, Any], state: State) -> None:
    assert dnsprobe.forward_confirmed(FakeResolver(zone), "192.0.2.10", "mail.office.test").state is state


def test_block_lists() -> None:
    zone = FakeResolver({"10.2.0.192.bl.test A": "127.0.0.2", "10.2.0.192.bl.test TXT": "see bl.test/10"})
    found = dnsprobe.listed(zone, "192.0.2.10", "bl.test")
    assert found.state is State.DANGEROUS and found.found == ("see bl.test/10", "127.0.0.2")
    assert dnsprobe.listed(zone, "192.0.2.11", "bl.test").state is State.OK
    refused = FakeResolver({"10.2.0.192.bl.test A": "127.255.255.254"})
    assert dnsprobe.listed(refused, "192.0.2.10", "bl.test").state is State.UNKNOWN
    six = FakeResolver({"0.1.0.0." + "0." * 20 + "8.b.d.0.1.0.0.2.bl.test A": "127.0.0.2"})
    assert dnsprobe.listed(six, "2001:db8::10", "bl.test").state is State.DANGEROUS


@pytest.mark.parametrize(
    ("zone", "state", "word"),
    [
        ({"office.test MX": "10 mail.office.test", "mail.office.test A": "192.0.2.10"}, State.OK, ""),
        ({"office.test MX": "10 192.0.2.10"}, State.DANGEROUS, "never an address"),
        ({"office.test MX": "10 mx.office.test", "mx.office.test CNAME": "mail.office.test"}, State.DANGEROUS, "alias"),
        ({"office.test MX": "10 mail.office.test"}, State.DANGEROUS, "no address"),
        ({"office.test MX": "10 mail.office.test", "mail.office.test A": "192.0.2.9"}, State.DIFFERENT, "not this"),
        ({}, State.MISSING, "publish an MX"),
    ],
)
def test_mail_hosts(zone: dict[str, Any], state: State, word: str) -> None:
    found = dnsprobe.mx_sane(FakeResolver(zone), "office.test", ["192.0.2.10"])
    assert found.state is state and word in found.cure


def test_spf_is_counted_through_what_it_includes() -> None:
    zone = {f"{n}.test TXT": f"v=spf1 a mx include:{n + 1}.test -all" for n in range(3)} | {"3.test TXT": "v=spf1 -all"}
    found = dnsprobe.spf_lookups(FakeResolver(zone), "0.test")
    assert found.state is State.OK and found.found == ("9 of 10",)
    zone["3.test TXT"] = "v=spf1 a mx -all"
    assert dnsprobe.spf_lookups(FakeResolver(zone), "0.test").state is State.DANGEROUS
    loop = FakeResolver({"a.test TXT": "v=spf1 include:a.test -all"})
    assert dnsprobe.spf_lookups(loop, "a.test").state is State.DANGEROUS


def test_reports() -> None:
    zone = FakeResolver({"_dmarc.office.test TXT": "v=DMARC1; p=none; rua=mailto:dmarc@office.test,mailto:a@else.test"})
    asked = ("_dmarc.office.test", "office.test")
    assert "bounce" in dnsprobe.reports_arrive(zone, *asked, lambda a: a != "dmarc@office.test").cure
    assert "office.test._report._dmarc.else.test" in dnsprobe.reports_arrive(zone, *asked, lambda a: True).cure
    zone.add("office.test._report._dmarc.else.test TXT", "v=DMARC1")
    assert dnsprobe.reports_arrive(zone, *asked, lambda a: True).state is State.OK


class _Anything(FakeResolver):
    def _exists(self, name: str) -> bool:
        return True

    def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> Any:
        return super().query("any.test", rdtype)


def test_wildcards() -> None:
    assert dnsprobe.wildcard(FakeResolver(), "office.test").state is State.OK
    assert dnsprobe.wildcard(_Anything({"any.test A": "192.0.2.80"}), "office.test").state is State.DIFFERENT


def test_ports() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def greet() -> None:
            for _ in range(2):
                with server.accept()[0] as sock:
                    sock.sendall(b"220 mail.office.test ESMTP\r\n")

        greeter = threading.Thread(target=greet)
        greeter.start()
        zone = FakeResolver({"big.test MX": "10 mx.big.test", "mx.big.test A": "127.0.0.1"})
        assert dnsprobe.outgoing(zone, "big.test", port).state is State.OK
        assert dnsprobe.incoming(zone, "127.0.0.1", "mail.office.test", port).state is State.OK
        greeter.join()
    closed = dnsprobe.outgoing(zone, "big.test", port)
    assert closed.failed and "smarthost" in closed.cure
    assert dnsprobe.incoming(zone, "127.0.0.1", "mail.office.test", port).state is State.UNKNOWN
    assert dnsprobe.outgoing(FakeResolver(), "big.test", port).state is State.UNKNOWN


def certificate(*names: str, days: int = 60, self_signed: bool = False) -> Certificate:
    end = NOW + datetime.timedelta(days=days)
    return Certificate(Path("c.pem"), b"", frozenset(names), end - datetime.timedelta(days=90), end, self_signed)


@pytest.mark.parametrize(
    ("shown", "state", "word"),
    [
        (certificate("mail.office.test", "autoconfig.office.test"), State.OK, ""),
        (certificate("*.office.test"), State.OK, ""),
        (certificate("mail.office.test"), State.DIFFERENT, "not in the certificate"),
        (certificate("mail.office.test", self_signed=True), State.DIFFERENT, "[acme]"),
        (certificate("*.office.test", days=3), State.DIFFERENT, "ends on 2026-08-04"),
        (certificate("*.office.test", days=-1), State.DANGEROUS, "has ended"),
        (None, State.MISSING, "[tls]"),
    ],
)
def test_certificate_names(shown: Certificate | None, state: State, word: str) -> None:
    zone = FakeResolver({"mail.office.test A": "192.0.2.10", "autoconfig.office.test A": "192.0.2.10"})
    names = ["mail.office.test", "autoconfig.office.test", "unpublished.office.test"]
    found = dnsweb.certificate_names(zone, "office.test", names, lambda name: shown, NOW)
    assert found.state is state and word in found.cure
