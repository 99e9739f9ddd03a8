"""A next hop that stops, breaks off or lies at any stage: the mail waits, and the answer says where it happened."""

from __future__ import annotations

import importlib.util
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mailguard.delivery.relay_settings import TimeoutSettings
from mailguard.model.event import Bounced, Deferred, Delivered

_spec = importlib.util.spec_from_file_location("stages_pki", Path(__file__).with_name("pki.py"))
assert _spec is not None and _spec.loader is not None
_pki: Any = importlib.util.module_from_spec(_spec)
sys.modules["stages_pki"] = _pki
_spec.loader.exec_module(_pki)

STAGES = ("greeting", "EHLO", "STARTTLS", "handshake", "AUTH", "MAIL", "RCPT", "DATA", "body", "dot")
Act = Callable[[Any], None]


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Any:
    authority = _pki.Authority(tmp_path_factory.mktemp("pki"))
    return authority.issue("localhost"), authority.file


@pytest.fixture
def over() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


RFC_5321 = {"greeting": 300, "hello": 300, "mail": 300, "rcpt": 300, "data": 120, "block": 180, "final": 600}


@pytest.mark.parametrize("wait", RFC_5321)
def test_no_wait_is_shorter_than_the_rfc_has_it(wait: str) -> None:
    assert getattr(TimeoutSettings(), wait) >= RFC_5321[wait]  # RFC 5321 §4.5.3.2


def until(stage: str, act: Act, context: Any) -> Act:
    """A peer that behaves until this stage is reached, and then does ``act``."""

    def handler(talk: Any) -> None:
        if stage == "greeting":
            return act(talk)
        talk.say("220 peer")
        while True:
            line = talk.line()
            verb = line.partition(" ")[0].upper()
            if verb == stage:
                return act(talk)
            if verb == "EHLO":
                secured = hasattr(talk.sock, "version")
                talk.say("250-peer\n250-AUTH PLAIN\n250 PIPELINING" if secured else "250-peer\n250 STARTTLS")
            elif verb == "STARTTLS":
                talk.say("220 go")
                if stage == "handshake":
                    return act(talk)
                talk.start_tls(context)
            elif verb == "DATA":
                talk.say("354 go")
                if stage == "body":
                    return act(talk)
                talk.body()
                if stage == "dot":
                    return act(talk)
                talk.say("250 done")
            else:
                talk.say("235 in" if verb == "AUTH" else "250 ok")

    return handler


def smarthost(house: Any, peer: Any, ca_file: Path) -> None:
    route = {"host": "localhost", "port": peer.port, "tls": "verify", "user": "us", "password": "secret"}
    house.relay |= {"route": (route,), "ca_file": str(ca_file), "ipv6": False}
    house.dns.add("localhost A", "127.0.0.1")


def outcome(house: Any, kind: type, raw: bytes = b"Subject: x\r\n\r\n" + b"x" * 2_000_000) -> Any:
    house.put("u@x.test", raw=raw)
    house.start()
    return house.events.wait(kind)[0]


def words(stage: str) -> str:
    return "TLS" if stage == "handshake" else "localhost"


@pytest.mark.parametrize("stage", STAGES)
def test_silence_costs_its_timeout(house: Any, peers: Any, issued: Any, over: threading.Event, stage: str) -> None:
    peer = peers(handler=until(stage, lambda talk: over.wait(30) and None, issued[0].context))
    smarthost(house, peer, issued[1])
    reply = outcome(house, Deferred).reply
    assert reply.temporary and words(stage) in reply.text
    assert stage in ("handshake", "body") or "in time" in reply.text


def _reset(talk: Any) -> None:
    talk.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    talk.sock.close()


@pytest.mark.parametrize("stage", STAGES)
def test_a_reset_puts_off(house: Any, peers: Any, issued: Any, stage: str) -> None:
    peer = peers(handler=until(stage, _reset, issued[0].context))
    smarthost(house, peer, issued[1])
    reply = outcome(house, Deferred).reply
    assert reply.temporary and words(stage) in reply.text


@pytest.mark.parametrize("stage", ["greeting", "EHLO", "MAIL", "RCPT", "DATA", "dot"])
@pytest.mark.parametrize("nonsense", ["hello there", "999 what", "250-one\n251 two", "2", "354 go on"])
def test_nonsense_puts_off(house: Any, peers: Any, issued: Any, stage: str, nonsense: str) -> None:
    if (stage, nonsense) == ("DATA", "354 go on"):
        return
    peer = peers(handler=until(stage, lambda talk: (talk.say(nonsense), talk.sock.recv(1))[0], issued[0].context))
    smarthost(house, peer, issued[1])
    assert outcome(house, Deferred, b"Subject: x\r\n\r\nx\r\n").reply.temporary


def test_nobody_at_the_port_puts_off(house: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    house.relay["destination"] = {"x.test": {"host": "127.0.0.1", "port": port}}
    assert f"127.0.0.1:{port}: Connection refused" in outcome(house, Deferred).reply.text


def test_a_host_that_never_accepts_costs_its_timeout(house: Any) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), socket.socket() as second:
            second.setblocking(False)
            second.connect_ex(("127.0.0.1", port))
            house.relay["destination"] = {"x.test": {"host": "127.0.0.1", "port": port}}
            assert "no answer in time" in outcome(house, Deferred).reply.text


def test_pipelining_that_is_only_said(house: Any, peers: Any) -> None:
    """It announces PIPELINING and throws away what came with MAIL: the answers that are missing cost a time-out."""

    def handler(talk: Any) -> None:
        talk.say("220 peer")
        talk.line()
        talk.say("250-peer\n250 PIPELINING")
        talk.line()
        talk.buffer = b""
        talk.say("250 ok")
        talk.sock.recv(1)

    peer = peers(handler=handler)
    house.relay["destination"] = {"x.test": {"host": "127.0.0.1", "port": peer.port}}
    assert "in time" in outcome(house, Deferred).reply.text


def test_starttls_that_is_only_said_goes_in_the_clear_unless_forbidden(house: Any, peers: Any) -> None:
    peer = peers(extensions=("STARTTLS",), answers={"STARTTLS": "454 4.7.0 not now"})
    house.relay["destination"] = {
        "x.test": {"host": "127.0.0.1", "port": peer.port, "tls": "may"},
        "y.test": {"host": "127.0.0.1", "port": peer.port, "tls": "encrypt"},
    }
    outcome(house, Delivered, b"Subject: x\r\n\r\nx\r\n")
    house.put("u@y.test")
    assert "refused STARTTLS: 454 4.7.0 not now" in house.events.wait(Deferred)[0].reply.text
    assert len(peer.messages) == 1


def test_what_a_man_in_the_middle_says_before_tls_is_forgotten(house: Any, peers: Any, issued: Any) -> None:
    """Answers sent in the clear behind the 220 must not be taken for answers inside TLS (CVE-2011-0411)."""

    def handler(talk: Any) -> None:
        talk.say("220 peer")
        talk.line()
        talk.say("250-peer\n250 STARTTLS")
        talk.line()
        talk.say("220 go\n250-evil\n250 AUTH PLAIN")
        talk.start_tls(issued[0].context)
        talk.peer.serve(talk)

    peer = peers(handler=handler)
    house.relay["destination"] = {"x.test": {"host": "127.0.0.1", "port": peer.port, "tls": "encrypt"}}
    reply = outcome(house, Deferred, b"Subject: x\r\n\r\nx\r\n").reply
    assert reply.temporary and not peer.messages


def test_a_refused_password_waits_for_whoever_set_it(house: Any, peers: Any, issued: Any) -> None:
    act = until("AUTH", lambda talk: (talk.say("535 5.7.8 no"), talk.sock.recv(1))[0], issued[0].context)
    peer = peers(handler=act)
    smarthost(house, peer, issued[1])
    reply = outcome(house, Deferred).reply
    assert "did not let us sign in as us: 535 5.7.8 no" in reply.text


def test_a_password_never_goes_in_the_clear(house: Any, peers: Any) -> None:
    peer = peers(extensions=("AUTH PLAIN",))
    house.relay["route"] = ({"host": "127.0.0.1", "port": peer.port, "tls": "may", "user": "us", "password": "p"},)
    assert "no TLS to hide it" in outcome(house, Deferred).reply.text


def test_a_size_that_is_too_small_bounces_before_the_body(house: Any, peers: Any) -> None:
    peer = peers(extensions=("SIZE 1000",))
    house.relay["destination"] = {"x.test": {"host": "127.0.0.1", "port": peer.port}}
    assert "takes messages of up to 1000 octets" in outcome(house, Bounced).reply.text
    assert not peer.transactions
