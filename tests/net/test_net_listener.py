"""Listeners over real loopback sockets: many clients, caps, PROXY headers, TLS, drain."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from mailguard.net.listener import Census, Listener, Peer
from mailguard.net.listening import ListenError, ListenerSettings, open_socket
from mailguard.net.parking import Parking, Reason
from mailguard.net.proxyproto import SIGNATURE, ProxyError, parse
from mailguard.net.selfsigned import make_self_signed
from mailguard.net.settings import LimitSettings, TlsSettings
from mailguard.net.stream import Stream
from mailguard.net.tls import TlsContexts, TlsError


def echo(stream: Stream, peer: Peer, settings: ListenerSettings) -> None:
    while data := stream.read():
        stream.write(f"{peer.ip} ".encode() + data)


@contextlib.contextmanager
def listening(
    settings: dict[str, object] | None = None, limits: LimitSettings | None = None, tls: TlsContexts | None = None
) -> Iterator[tuple[Listener, int]]:
    sock = socket.create_server(("127.0.0.1", 0))
    listener = Listener(
        sock,
        ListenerSettings.model_validate({"kind": "smtp", **(settings or {})}),
        echo,
        census=Census(limits or LimitSettings()),
        tls=tls,
        log=structlog.get_logger(),
    )
    listener.start()
    yield listener, sock.getsockname()[1]
    listener.stop_accepting()
    listener.hang_up()
    sock.close()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def test_many_at_once_each_gets_a_thread() -> None:
    with listening() as (_, port), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in range(30)]
        for client in clients:
            client.sendall(b"hello")
        assert {client.recv(100) for client in clients} == {b"127.0.0.1 hello"}


def test_caps_are_told() -> None:
    with listening(limits=LimitSettings(per_network=1)) as (_, port), connect(port) as first:
        first.sendall(b"x")
        assert first.recv(100) == b"127.0.0.1 x"
        with connect(port) as second:
            assert second.recv(100) == b"421 4.3.2 too many connections, try again later\r\n"


def test_hang_up_lets_the_answer_out() -> None:
    with listening() as (listener, port), connect(port) as client:
        client.sendall(b"x")
        assert client.recv(100) == b"127.0.0.1 x"
        listener.stop_accepting()
        listener.hang_up()
        assert client.recv(100) == b""


def test_proxy_header_in_pieces() -> None:
    with listening({"proxy_from": ["127.0.0.0/8"]}) as (_, port), connect(port) as client:
        client.sendall(b"PROXY TCP4 192.0.2.7 ")
        client.sendall(b"198.51.100.1 4000 25\r\nhello")
        assert client.recv(100) == b"192.0.2.7 hello"


def test_a_proxy_must_send_its_header_and_strangers_must_not() -> None:
    with listening({"proxy_from": ["127.0.0.0/8"]}) as (_, port), connect(port) as client:
        client.sendall(b"EHLO x\r\n")
        assert client.recv(100) == b""
    with listening({"proxy_from": ["192.0.2.0/24"]}) as (_, port), connect(port) as client:
        client.sendall(b"PROXY UNKNOWN\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(100) == b""


V2 = SIGNATURE + bytes([0x21, 0x11, 0, 12]) + bytes([192, 0, 2, 7, 198, 51, 100, 1]) + b"\x0f\xa0\x00\x19"


@pytest.mark.parametrize("header", [V2, b"PROXY TCP4 192.0.2.7 198.51.100.1 4000 25\r\n"])
def test_proxy_headers_byte_by_byte(header: bytes) -> None:
    assert all(parse(header[:n]) is None for n in range(len(header)))
    found = parse(header + b"rest")
    assert found is not None and (found.length, found.ip, found.port) == (len(header), "192.0.2.7", 4000)


@pytest.mark.parametrize(
    "wrong",
    [b"EHLO", b"PROXY TCP4 1.2.3.4\r\n", b"PROXY TCP4 ::1 ::1 1 1\r\n", b"PROXY " + b"x" * 200, V2[:12] + b"\x31",
     V2[:13] + b"\x11\xff\xff", V2[:13] + b"\x21\x00\x0c" + V2[16:], b"PROXY TCP4 1.2.3.4 1.2.3.4 99999 1\r\n"],
)  # fmt: skip
def test_wrong_proxy_headers(wrong: bytes) -> None:
    with pytest.raises(ProxyError):
        parse(wrong.ljust(20, b"\0"))


@pytest.fixture
def tls(tmp_path: Path) -> TlsContexts:
    make_self_signed(["mail.office.test"], tmp_path / "tls/certificate.pem", tmp_path / "tls/key.pem")
    make_self_signed(["mail.second.test"], tmp_path / "second.pem", tmp_path / "second.key")
    domain = {"names": ["mail.second.test"], "certificate": "second.pem", "key": "second.key"}
    return TlsContexts(TlsSettings.model_validate({"domain": [domain]}), tmp_path)


def test_implicit_tls_with_a_certificate_for_each_name(tls: TlsContexts, tmp_path: Path) -> None:
    with listening({"kind": "submissions"}, tls=tls) as (_, port):
        for name, file in (("mail.office.test", "tls/certificate.pem"), ("mail.second.test", "second.pem")):
            context = ssl.create_default_context(cafile=tmp_path / file)
            with connect(port) as client, context.wrap_socket(client, server_hostname=name) as secure:
                secure.sendall(b"hi")
                assert secure.recv(100) == b"127.0.0.1 hi"
                assert secure.getpeercert(True) == tls.certificate_for(name).der


def test_certificates_are_reloaded_or_kept(tls: TlsContexts, tmp_path: Path) -> None:
    before = tls.certificate_for("").der
    make_self_signed(["mail.office.test"], tmp_path / "tls/certificate.pem", tmp_path / "tls/key.pem")
    tls.reload()
    assert tls.certificate_for("").der != before and not tls.changed()
    (tmp_path / "tls/key.pem").write_bytes((tmp_path / "second.key").read_bytes())
    with pytest.raises(TlsError, match="the key does not belong to the certificate"):
        tls.reload()
    (tmp_path / "tls/key.pem").write_text("no key")
    with pytest.raises(TlsError, match=r"key\.pem: holds no private key in PEM form; `mailguard init`"):
        tls.reload()
    (tmp_path / "tls/certificate.pem").unlink()
    with pytest.raises(TlsError, match="No such file or directory; `mailguard init`"):
        tls.reload()


def test_errors_of_listening_name_the_cure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ListenerSettings(kind="smtp", address="127.0.0.1", port=taken.getsockname()[1])
        with pytest.raises(ListenError, match="Address already in use; another server holds it"):
            open_socket(settings)
    with pytest.raises(ListenError, match="this machine has no such address"):
        open_socket(ListenerSettings(kind="smtp", address="192.0.2.1", port=2525))


def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    settings = ListenerSettings(kind="lmtp", address=str(tmp_path / "lmtp"))
    open_socket(settings).close()
    with open_socket(settings), pytest.raises(ListenError):
        open_socket(settings)


def test_parking_wakes_for_octets_bells_deadlines_and_the_end() -> None:
    parking = Parking()
    parking.start()
    woken: dict[str, Reason] = {}
    ready = threading.Semaphore(0)

    def wake(name: str, reason: Reason) -> None:
        woken[name] = reason
        ready.release()

    with contextlib.ExitStack() as stack:
        ends = {}
        for name in ("octets", "bell", "deadline", "drain"):
            ours, theirs = socket.socketpair()
            ends[name] = stack.enter_context(theirs)
            stack.enter_context(ours)
            seconds = 0.05 if name == "deadline" else 60.0
            bell = parking.park(Stream(ours), lambda reason, name=name: wake(name, reason), seconds)
            if name == "bell":
                ring = bell
        ends["octets"].sendall(b"x")
        ring()
        ring()  # a second ring is nothing
        for _ in range(3):
            assert ready.acquire(timeout=10)
        assert len(parking) == 1
        parking.stop()
        assert ready.acquire(timeout=10)
    assert woken == {
        "octets": Reason.READABLE,
        "bell": Reason.RUNG,
        "deadline": Reason.TIMEOUT,
        "drain": Reason.DRAIN,
    }
