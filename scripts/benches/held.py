"""Connections held open by slow clients, plain and in TLS: memory for each, and how soon a new client is served."""

from __future__ import annotations

import resource
import socket
import ssl
import time
from collections.abc import Iterator

import harness
from harness import Row

HELD = 2_000
ASKED = 40
_DIALOGUE = (
    b"EHLO c.test\r\n",
    b"MAIL FROM:<a@x.test>\r\n",
    b"RCPT TO:<u0@a.test>\r\n",
    b"DATA\r\n",
    b"Subject: x\r\n\r\nx\r\n.\r\n",
)


def rows() -> Iterator[Row]:
    """Two thousand of each kind, stopped in the middle of a command; proportional memory."""
    harness.need()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4 * HELD), most))
    with harness.scratch() as base, harness.ours(base / "ours") as server:
        port = server.offset + 25
        for _ in range(30):
            _message(port)
        for tls, limit in ((False, 40), (True, 90)):
            before = harness.pss(server.pid)
            held = [_hold(port, tls) for _ in range(HELD)]
            time.sleep(2)
            each = (harness.pss(server.pid) - before) / HELD
            soonest = sorted(_message(port) for _ in range(ASKED))
            for sock in held:
                sock.close()
            what = f"{HELD} held {'TLS' if tls else 'plain'} connections"
            yield Row(f"{what}: memory of each", each, limit, "kB", 1, False, "(limit)")
            yield Row(f"{what}: a new client's message, median", soonest[ASKED // 2], 200, "ms", 1, False, "(limit)")
            time.sleep(3)


def _hold(port: int, tls: bool) -> socket.socket:
    sock: socket.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
    sock.recv(200)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for line in (b"EHLO c.test\r\n", b"STARTTLS\r\n"):
            sock.sendall(line)
            sock.recv(1000)
        sock = context.wrap_socket(sock)
    sock.sendall(b"EHLO c.test\r\nMAIL FR")
    return sock


def _message(port: int) -> float:
    """Milliseconds from connecting to the 250 of one message."""
    began = time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=60) as sock:
        sock.recv(200)
        for line in _DIALOGUE:
            sock.sendall(line)
            sock.recv(2000)
    return 1000 * (time.perf_counter() - began)
