"""The HTTP server over real sockets: TLS, bounds, and clients that waste its time."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from mailguard.net.selfsigned import make_self_signed
from mailguard.net.settings import TlsSettings
from mailguard.net.tls import TlsContexts
from mailguard.server.web_cheroot import MAX_REQUESTS
from mailguard.server.web_serve import http_server

pytestmark = pytest.mark.e2e
THREADS = 4


class Served:
    """Two servers, HTTP and HTTPS, that echo what they were asked."""

    def __init__(self, folder: Path) -> None:
        make_self_signed(["localhost"], folder / "c.pem", folder / "k.pem")
        self.context = ssl.create_default_context(cafile=str(folder / "c.pem"))
        self.refused: set[str] = set()
        self.slow: list[str] = []
        tls = TlsContexts(TlsSettings(certificate=Path("c.pem"), key=Path("k.pem")), folder)
        self.servers = [self._start(None), self._start(tls)]
        self.http, self.https = (sock.getsockname()[1] for sock, _, _ in self.servers)

    def _start(self, tls: TlsContexts | None) -> tuple[socket.socket, object, threading.Thread]:
        sock = socket.create_server(("127.0.0.1", 0))
        server = http_server(
            sock, echo, tls=tls, threads=THREADS, log=structlog.get_logger(),
            admit=lambda ip: ip not in self.refused, slow=self.slow.append,
        )  # fmt: skip
        server.prepare()
        thread = threading.Thread(target=server.serve)
        thread.start()
        return sock, server, thread

    def ask(self) -> bytes:
        client = http.client.HTTPSConnection("localhost", self.https, context=self.context, timeout=10)
        with contextlib.closing(client):
            client.request("GET", "/")
            with client.getresponse() as answer:
                return answer.read()


def echo(environ, start_response):  # type: ignore[no-untyped-def]
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or environ["PATH_INFO"].encode()
    body += b" over " + environ["wsgi.url_scheme"].encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    for sock, server, thread in made.servers:
        server.stop()  # type: ignore[attr-defined]
        thread.join()
        sock.close()


def test_a_kept_connection_ends_after_a_few_requests_and_says_so(served: Served) -> None:
    client = http.client.HTTPConnection("localhost", served.http, timeout=10)
    for number in range(MAX_REQUESTS):
        client.request("POST", "/", f"body {number}")
        with client.getresponse() as answer:
            assert answer.read() == f"body {number} over http".encode()
            assert (answer.headers.get("Connection") == "close") == (number == MAX_REQUESTS - 1)
    client.close()


def test_requests_that_come_together_are_answered_in_turn(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.http)) as sock:
        sock.sendall(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n" * 2 + b"GET /2 HTTP/1.0\r\n\r\n")
        got = b""
        while data := sock.recv(4096):
            got += data
    assert got.count(b"/1 over http") == 2 and got.endswith(b"/2 over http")


def test_tls_ends_with_close_notify(served: Served) -> None:
    raw = socket.create_connection(("127.0.0.1", served.https))
    with served.context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        got = b""
        while data := sock.recv(4096):  # would raise at a bare end of the connection
            got += data
    assert got.endswith(b"/ over https")


def test_an_absolute_uri_is_refused(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.http)) as sock:
        sock.sendall(b"GET https://localhost/x HTTP/1.0\r\n\r\n")
        with sock.makefile("rb") as answer:
            assert b" 400 " in answer.readline()


def test_silent_connections_hold_no_thread(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        for port in (served.http, served.https):
            for _ in range(3 * THREADS):
                stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        began = time.monotonic()
        assert served.ask() == b"/ over https"
        assert time.monotonic() - began < 1


def test_half_a_request_gives_way_to_others(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(THREADS):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", served.https)))
            sock.sendall(b"\x16")
        assert served.ask() == b"/ over https"
        assert set(served.slow) == {"127.0.0.1"}


def test_an_address_that_is_not_admitted_is_hung_up_on(served: Served) -> None:
    served.refused.add("127.0.0.1")
    with pytest.raises((OSError, http.client.HTTPException)):
        served.ask()


def test_bounds(served: Served) -> None:
    client = http.client.HTTPConnection("localhost", served.http, timeout=10)
    client.request("POST", "/", b"x" * 70_000)
    with client.getresponse() as answer:
        assert answer.status == 413
        answer.read()
    client.close()
    with socket.create_connection(("127.0.0.1", served.http)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 17_000 + b"\r\n\r\n")
        with sock.makefile("rb") as answer:
            assert b" 413 " in answer.readline()
