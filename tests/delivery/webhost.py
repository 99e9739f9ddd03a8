"""An HTTPS host on loopback that answers whatever a test scripts."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

from loopback import Loopback


class WebHost(Loopback):
    """``answer`` is the whole response, or a function that is given the socket after the request has come."""

    def __init__(self, context: ssl.SSLContext, answer: bytes | Callable[[ssl.SSLSocket], None] = b"") -> None:
        self.context = context
        self.answer = answer
        self.requests: list[str] = []
        super().__init__()

    def run(self, sock: socket.socket) -> None:
        with self.context.wrap_socket(sock, server_side=True) as secure:
            self.live.append(secure)
            head = b""
            while b"\r\n\r\n" not in head:
                block = secure.recv(65536)
                if not block:
                    return
                head += block
            self.requests.append(head.decode())
            if callable(self.answer):
                self.answer(secure)
            else:
                secure.sendall(self.answer)


def page(body: str, kind: str = "text/plain", status: str = "200 OK", more: str = "") -> bytes:
    """A response with this body."""
    data = body.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n{more}\r\n"
    return head.encode() + data
