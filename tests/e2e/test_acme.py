"""Certificates from a CA: Debian's pebble, proved over our own port 80, taken in and renewed without a restart."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import installed
import pytest

from mailguard.net.selfsigned import make_self_signed
from mailguard.net.tls import read_certificate
from mailguard.testing.dns import DnsServer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not shutil.which("pebble"), reason="needs Debian's pebble"),
]
ZONE = "".join(f"{name}.office.test. A 127.0.0.1\n" for name in ("mail", "autoconfig", "autodiscover"))


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as server:
        yield server


class Pebble:
    """The CA: its directory, and the file with the certificate of its web server."""

    def __init__(self, folder: Path, dns: DnsServer, http_port: int) -> None:
        folder.mkdir()
        self.ca_file = folder / "web.pem"
        make_self_signed(["localhost"], self.ca_file, folder / "web.key")
        ports = []
        for _ in range(2):
            with socket.create_server(("127.0.0.1", 0)) as probe:
                ports.append(probe.getsockname()[1])
        settings = {
            "listenAddress": f"127.0.0.1:{ports[0]}",
            "managementListenAddress": f"127.0.0.1:{ports[1]}",
            "certificate": str(self.ca_file),
            "privateKey": str(folder / "web.key"),
            "httpPort": http_port,
            "tlsPort": 1,
        }
        (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
        environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "5"}
        command = ["pebble", "-config", str(folder / "pebble.json"), "-dnsserver", dns.nameserver]
        self.log = (folder / "log").open("wb")
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=subprocess.STDOUT)
        self.directory = f"https://localhost:{ports[0]}/dir"
        _wait_for_port(ports[0])

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self.log.close()


def _wait_for_port(port: int) -> None:
    for _ in range(100):
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"nothing listens on {port}")


@pytest.fixture
def server(tmp_path: Path, dns: DnsServer) -> Iterator[Any]:
    server = installed.Installed(tmp_path / "office", settings=["workers=2", f'dns.nameservers=["{dns.nameserver}"]'])
    pebble = Pebble(tmp_path / "pebble", dns, server.port(80))
    text = server.config.read_text().replace('kind = "http" ', 'kind = "http"\naddress = "127.0.0.1" ')
    acme = f'[acme]\nenabled = true\ndirectory = "{pebble.directory}"\nca_file = "{pebble.ca_file}"'
    server.config.write_text(re.sub(r"(?m)^\[acme\].*$", acme, text))
    yield server
    server.close()
    pebble.close()


def shown(server: Any, name: str = "mail.office.test") -> Any:
    """The certificate that a client sees on the submission port."""
    from cryptography import x509

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", server.port(465)), 10) as sock,
        context.wrap_socket(sock, server_hostname=name) as tls,
    ):
        der = tls.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


@pytest.mark.slow
def test_issued_taken_in_and_renewed_while_running(server: Any, dns: DnsServer) -> None:
    server.start()
    assert any("the certificate is self-signed" in line for line in server.log)
    assert shown(server).issuer == shown(server).subject
    server.wait_for("asking for a certificate")
    server.wait_for("a new certificate names=")
    for _ in range(2):
        server.wait_for("certificates reloaded pid=")
    issued = server.folder / "data/acme/certificate.pem"
    first = read_certificate(issued)
    assert first.names == {"mail.office.test", "autoconfig.office.test", "autodiscover.office.test"}
    assert issued.stat().st_mode & 0o777 == 0o600
    assert "Pebble" in shown(server).issuer.rfc4514_string()
    # A name is published later: a new certificate, the same key, nothing restarted.
    workers = server.workers()
    dns.add("mta-sts.office.test. CNAME mail.office.test.")
    done = server.run("certificate", "renew")
    assert "mta-sts.office.test is not in it" in done.stdout
    for _ in range(2):
        server.wait_for("certificates reloaded pid=")
    second = shown(server)
    assert second.serial_number != 0 and "mta-sts.office.test" in read_certificate(issued).names
    assert server.workers() == workers
    listed = json.loads(server.run("certificate", "show", "--json").stdout)
    assert listed[0]["file"] == str(issued) and not listed[0]["self_signed"]
    assert "accounturi=https://localhost" in server.run("dns", "show").stdout
    assert not list((server.folder / "data/challenges").iterdir())


@pytest.mark.slow
def test_a_name_that_cannot_be_verified_does_not_cost_the_others(server: Any, dns: DnsServer) -> None:
    server.start()
    server.wait_for("a new certificate names=")
    # A name that leads to us when we look, and elsewhere (where nobody listens) when the CA does.
    dns.add("mta-sts.office.test. A 127.0.0.1")
    answer = dns.answer

    def move_on(query: Any) -> Any:
        reply = answer(query)
        if query.question[0].to_text() == "mta-sts.office.test. IN A":
            dns.add("mta-sts.office.test. A 127.0.0.2")
        return reply

    dns.answer = move_on  # type: ignore[method-assign]
    done = server.run("certificate", "renew", "--force")
    assert "goes without a name for now: name=mta-sts.office.test" in done.stderr and "refused" in done.stderr
    names = read_certificate(server.folder / "data/acme/certificate.pem").names
    assert names == {"mail.office.test", "autoconfig.office.test", "autodiscover.office.test"}
    assert "left out: mta-sts.office.test" in server.run("certificate", "show").stdout


def test_a_ca_out_of_reach_is_one_line_and_waits(server: Any) -> None:
    text = server.config.read_text()
    server.config.write_text(text.replace("https://localhost:", "https://localhost:1/x?"))
    done = server.run("certificate", "renew", code=1)
    assert "Connection refused" in done.stderr and "port 80" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "last attempt" in server.run("certificate", "show").stdout
    memory = json.loads((server.folder / "data/acme/memory.json").read_text())
    assert memory["failures"] == 1
    assert memory["next_attempt"] > time.time() + 200
