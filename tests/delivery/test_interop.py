"""Mail to Postfix, Exim and OpenSMTPD: as a domain's MX, and as a smarthost with TLS and a password."""

from __future__ import annotations

import re
import shutil
import smtplib
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rivals
from peer import Peer
from pki import Authority

from mailguard.model.event import Bounced, Deferred, Delivered

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


NO_TLS = "its TLS does not work: OpenSMTPD before 7.3 with OpenSSL 3 finds no private key (its issue 1171)"
BODY = ".\r\n..\r\n.dot\r\n" + "x" * 990 + "\r\nüñî\r\n"
RAW = f"From: a@office.test\r\nTo: u@x.test\r\nSubject: hello\r\n\r\n{BODY}".encode()


def _speaks_tls(port: int) -> bool:
    """Whether its TLS works at all: OpenSMTPD 6.8 built with OpenSSL 3 cannot use the key it was given."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            client.starttls(context=context)
    except (OSError, smtplib.SMTPException):
        return False
    return True


class World:
    """One other server, and the peer that it hands mail on to."""

    def __init__(self, name: str, folder: Path, authority: Any, onward: Any, port: int) -> None:
        self.name, self.folder, self.authority, self.onward, self.port = name, folder, authority, onward, port
        self.speaks_tls = _speaks_tls(port)

    def log(self) -> str:
        logs = [path for path in (self.folder / "log", self.folder / "spool/mainlog") if path.exists()]
        return "".join(path.read_text() for path in logs)

    def arrived(self, text: bytes) -> bytes:
        with self.onward.changed:
            assert self.onward.changed.wait_for(lambda: any(text in m for m in self.onward.messages), 30), self.log()
        return next(m for m in self.onward.messages if text in m)


@pytest.fixture(scope="module", params=["postfix", "exim", "opensmtpd"])
def world(request: Any) -> Iterator[World]:
    if why := rivals.missing(request.param):
        pytest.skip(why)
    folder = Path(tempfile.mkdtemp(prefix=f"mailguard-{request.param}-"))
    folder.chmod(0o755)  # these servers drop their privilege
    onward = Peer(extensions=("PIPELINING", "8BITMIME", "SIZE 10000000", "SMTPUTF8", "DSN"))
    try:
        authority = Authority(folder)
        issued = authority.issue("localhost", "mx.x.test")
        with rivals.rival(request.param, folder, issued.file, onward.port) as port:
            yield World(request.param, folder, authority, onward, port)
    finally:
        onward.close()
        shutil.rmtree(folder, ignore_errors=True)


def tls_of(house: Any) -> list[str]:
    """What the settlements say of TLS, filled as they come."""
    found: list[str] = []
    settle = house.queue.settle
    house.queue.settle = lambda done, notices=(): (found.extend(s.tls for s in done), settle(done, notices))
    return found


def as_mx(house: Any, world: World) -> None:
    house.dns.add("x.test MX", "10 mx.x.test")
    house.dns.add("mx.x.test A", "127.0.0.1")
    # Their first answers come slowly on a busy machine.
    house.relay |= {"port": world.port, "timeout": dict.fromkeys(("greeting", "hello", "mail", "rcpt", "final"), 20)}


def test_as_the_mx_of_a_domain(world: World, house: Any) -> None:
    as_mx(house, world)
    tls = tls_of(house)
    for n in range(20):
        house.put("u@x.test", "v@x.test", raw=RAW.replace(b"hello", b"number %d." % n))
    house.start()
    house.events.wait(Delivered, 40, 60)
    for n in range(20):
        raw = world.arrived(b"Subject: number %d.\r\n" % n)
        body = raw.partition(b"\r\n\r\n")[2]
        stuffed = BODY.encode().replace(b"\r\n.", b"\r\n..")
        assert body == b"." + stuffed, (world.name, body[:60])
    wanted = r"TLSv1\.[23] \S+, certificate not checked" if world.speaks_tls else "none"
    assert tls and all(re.fullmatch(wanted, text) for text in tls), tls


def test_their_refusal_is_the_senders_report(world: World, house: Any) -> None:
    as_mx(house, world)
    house.put("nobody@x.test", "u@x.test", raw=RAW.replace(b"hello", b"half"))
    house.start()
    (bounced,) = house.events.wait(Bounced, 1, 60)
    assert bounced.recipient == "nobody@x.test" and bounced.reply.code == 550
    assert world.arrived(b"Subject: half\r\n")


def test_addresses_beyond_ascii(world: World, house: Any) -> None:
    if world.name == "opensmtpd":
        pytest.skip("it has no SMTPUTF8")
    as_mx(house, world)
    house.put("ü@x.test", raw=RAW.replace(b"hello", "grüße".encode()), smtputf8=True)
    house.start()
    house.events.wait(Delivered, 1, 60)
    assert world.arrived("Subject: grüße\r\n".encode())


def test_as_a_smarthost_with_a_verified_certificate_and_a_password(world: World, house: Any) -> None:
    if not world.speaks_tls:
        pytest.skip(NO_TLS)
    route = {"host": "localhost", "port": world.port, "tls": "verify", "user": "us", "password": "secret"}
    house.relay |= {"route": (route,), "ca_file": str(world.authority.file), "ipv6": False}
    house.dns.add("localhost A", "127.0.0.1")
    tls = tls_of(house)
    house.put("far@away.test", raw=RAW.replace(b"hello", b"by smarthost"))
    house.start()
    house.events.wait(Delivered, 1, 60)
    assert world.arrived(b"Subject: by smarthost\r\n")
    assert len(tls) == 1 and re.fullmatch(r"TLSv1\.[23] \S+, verified", tls[0]), tls


def test_a_smarthost_refuses_a_wrong_password_and_strangers(world: World, house: Any) -> None:
    if not world.speaks_tls:
        pytest.skip(NO_TLS)
    house.dns.add("localhost A", "127.0.0.1")
    route = {"host": "localhost", "port": world.port, "tls": "verify", "user": "us", "password": "wrong"}
    stranger = {"host": "127.0.0.1", "port": world.port, "tls": "encrypt", "sender": "stranger.test"}
    house.relay |= {"route": (stranger, route), "ca_file": str(world.authority.file), "ipv6": False}
    house.relay["timeout"] = dict.fromkeys(("greeting", "hello", "mail", "rcpt", "final"), 20)
    house.put("far@away.test")
    house.put("far@away.test", sender="a@stranger.test")
    house.start()
    deferred = house.events.wait(Deferred, 1, 60)[0]  # the report of the bounce below may wait there, too
    assert "did not let us sign in as us: 535" in deferred.reply.text
    (bounced,) = house.events.wait(Bounced, 1, 60)
    assert bounced.reply.permanent
