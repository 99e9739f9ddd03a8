"""DANE end to end: Knot DNS signs the zone, Unbound validates it, a scripted next hop shows its certificate."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from peer import Peer
from pki import Authority

from mailguard.model.event import Deferred, Delivered
from mailguard.net.resolver import DnsResolver, DnsTemporaryError
from mailguard.net.settings import DnsSettings


def _program(name: str) -> str:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin") or ""


pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(_program, ("knotd", "keymgr", "unbound"))), reason="knot and unbound are not installed"
    ),
]


SOA = "@ 60 SOA ns hostmaster 1 3600 600 86400 60\n@ 60 NS ns\nns 60 A 127.0.0.1\n"
KNOT = """
server:
    listen: 127.0.0.1@{port}
    rundir: "{folder}"
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{folder}/db"
log:
  - target: stderr
    any: info
policy:
  - id: quick
    algorithm: ecdsap256sha256
    single-type-signing: on
template:
  - id: default
    storage: "{folder}"
    file: "%s.zone"
zone:
  - domain: signed.test
    dnssec-signing: on
    dnssec-policy: quick
  - domain: broken.test
    dnssec-signing: on
    dnssec-policy: quick
  - domain: plain.test
"""
UNBOUND = """
server:
    interface: 127.0.0.1
    port: {port}
    do-daemonize: no
    username: ""
    chroot: ""
    directory: "{folder}"
    pidfile: ""
    use-syslog: no
    do-ip6: no
    do-not-query-localhost: no
    num-threads: 1
    module-config: "validator iterator"
    local-zone: "test." nodefault
    domain-insecure: "plain.test"
    trust-anchor: "{signed}"
    trust-anchor: "broken.test. DS 12345 13 2 {nothing}"
remote-control:
    control-enable: no
"""


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        return int(udp.getsockname()[1])


class World:
    """The zones: every host is 127.0.0.1 and serves on one port, told apart by the domain that leads to it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        (folder / "db/keys").mkdir(parents=True)
        authority = Authority(folder)
        issued = authority.issue("mx.elsewhere.test")  # DANE-EE does not look at names
        named = authority.issue("ta.signed.test")
        self.peers = {"tls": Peer(context=issued.context), "named": Peer(context=named.context), "bare": Peer()}
        for peer in self.peers.values():
            stack.callback(peer.close)
        tls, ta, bare = (self.peers[name].port for name in ("tls", "named", "bare"))
        pin = f"TLSA 3 1 1 {issued.spki_sha256}"
        anchor = hashlib.sha256(authority.certificate.public_bytes(Encoding.DER)).hexdigest()
        hosts = f"""
good MX 10 mx.good\nmx.good A 127.0.0.1\n_{tls}._tcp.mx.good {pin}
wrong MX 10 mx.wrong\nmx.wrong A 127.0.0.1\n_{tls}._tcp.mx.wrong TLSA 3 1 1 {"00" * 32}
rolling MX 10 mx.rolling\nmx.rolling A 127.0.0.1
_{tls}._tcp.mx.rolling TLSA 3 1 1 {"00" * 32}\n_{tls}._tcp.mx.rolling {pin}
ta MX 10 ta\nta A 127.0.0.1\n_{ta}._tcp.ta TLSA 2 0 1 {anchor}
other MX 10 mx.other\nmx.other A 127.0.0.1\n_{ta}._tcp.mx.other TLSA 2 0 1 {anchor}
none MX 10 mx.none\nmx.none A 127.0.0.1
unusable MX 10 mx.unusable\nmx.unusable A 127.0.0.1\n_{tls}._tcp.mx.unusable TLSA 0 0 1 {"00" * 32}
down MX 10 mx.down\nmx.down A 127.0.0.1\n_{bare}._tcp.mx.down {pin}
abroad MX 10 mx.plain.test.
"""
        plain = f"@ MX 10 mx\nmx A 127.0.0.1\n_{tls}._tcp.mx TLSA 3 1 1 {'00' * 32}\n"
        for name, text in (("signed", hosts), ("broken", "@ MX 10 mx\nmx A 127.0.0.1\n"), ("plain", plain)):
            (folder / f"{name}.test.zone").write_text(f"$TTL 60\n{SOA}{text}")
        self._serve(stack)

    def _serve(self, stack: ExitStack) -> None:
        knot, unbound = _free_port(), _free_port()
        config = self.folder / "knot.conf"
        config.write_text(KNOT.format(port=knot, folder=self.folder))
        self._run(stack, _program("knotd"), "-c", str(config))
        direct = DnsResolver(DnsSettings(nameservers=(f"127.0.0.1:{knot}",), timeout=1, cache_size=0))
        self._until(lambda: direct.query("signed.test", "DNSKEY").records)
        told = subprocess.run(
            [_program("keymgr"), "-c", str(config), "signed.test", "ds"], capture_output=True, text=True, check=True
        )
        anchor = next(line for line in told.stdout.splitlines() if line.split()[4] == "2")
        zones = "".join(
            f'stub-zone:\n    name: "{name}.test"\n    stub-addr: 127.0.0.1@{knot}\n'
            for name in ("signed", "broken", "plain")
        )
        text = UNBOUND.format(port=unbound, folder=self.folder, signed=anchor, nothing="00" * 32)
        (self.folder / "unbound.conf").write_text(text + zones)
        self._run(stack, _program("unbound"), "-d", "-c", str(self.folder / "unbound.conf"))
        self.settings = DnsSettings(nameservers=(f"127.0.0.1:{unbound}",), timeout=5, validating=True)
        self._until(lambda: DnsResolver(self.settings).query("signed.test", "SOA").authentic)

    def _run(self, stack: ExitStack, *command: str) -> None:
        log = stack.enter_context((self.folder / f"{Path(command[0]).name}.log").open("wb"))
        process = subprocess.Popen(command, stdout=log, stderr=log)
        stack.callback(process.wait, 10)
        stack.callback(process.terminate)

    def _until(self, what: Any) -> None:
        until = time.monotonic() + 20
        while True:
            try:
                if what():
                    return
            except DnsTemporaryError:
                pass
            logs = "".join(path.read_text() for path in self.folder.glob("*.log"))
            assert time.monotonic() < until, logs
            time.sleep(0.1)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(tmp_path_factory.mktemp("signed"), stack)


@pytest.mark.parametrize(
    ("domain", "peer", "words"),
    [
        ("good.signed.test", "tls", "verified by DANE"),
        ("rolling.signed.test", "tls", "verified by DANE"),
        ("ta.signed.test", "named", "verified by DANE"),
        ("none.signed.test", "tls", "certificate not checked"),
        ("none.signed.test", "bare", "none"),
        ("unusable.signed.test", "tls", "certificate not checked"),
        ("plain.test", "tls", "certificate not checked"),
        ("abroad.signed.test", "tls", "certificate not checked"),
    ],
)
def test_what_fits_is_delivered(world: World, house: Any, domain: str, peer: str, words: str) -> None:
    sent = send(world, house, domain, peer, Delivered)
    assert sent == words or sent.endswith(words)


@pytest.mark.parametrize(
    ("domain", "peer", "words"),
    [
        ("wrong.signed.test", "tls", "no TLSA record matches the server's certificate"),
        ("other.signed.test", "named", "the server's certificate is not for mx.other.signed.test"),
        ("down.signed.test", "bare", "does not offer TLS, which dane (DANE) asks for"),
        ("broken.test", "tls", "DNS gave no answer for the MX of broken.test"),
    ],
)
def test_what_does_not_fit_waits(world: World, house: Any, domain: str, peer: str, words: str) -> None:
    before = len(world.peers[peer].messages)
    assert words in send(world, house, domain, peer, Deferred)
    assert len(world.peers[peer].messages) == before


def send(world: World, house: Any, domain: str, peer: str, kind: type) -> str:
    """The TLS of a delivery, or the answer that put it off."""
    house.dns = DnsResolver(world.settings)
    house.relay |= {"port": world.peers[peer].port, "ipv6": False}
    tls: list[str] = []
    settle = house.queue.settle
    house.queue.settle = lambda settlements, notices=(): (
        tls.extend(s.tls for s in settlements),
        settle(settlements, notices),
    )
    house.put(f"u@{domain}")
    house.start()
    (event,) = house.events.wait(kind)
    return event.reply.text if kind is Deferred else tls[-1]
