"""An HTTPS host on loopback that answers whatever a test scripts."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable


class WebHost:
    """``answer`` is the whole response, or a function that is given the socket after the request has come."""

    def __init__(self, context: ssl.SSLContext, answer: bytes | Callable[[ssl.SSLSocket], None] = b"") -> None:
        self.context = context
        self.answer = answer
        self.requests: list[str] = []
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port = self._sock.getsockname()[1]
        self._live: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            self._live.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), self.context.wrap_socket(plain, server_side=True) as sock:
            self._live.append(sock)
            head = b""
            while b"\r\n\r\n" not in head:
                block = sock.recv(65536)
                if not block:
                    return
                head += block
            self.requests.append(head.decode())
            if callable(self.answer):
                self.answer(sock)
            else:
                sock.sendall(self.answer)

    def close(self) -> None:
        for sock in [self._sock, *self._live]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._thread.join(5)


def page(body: str, kind: str = "text/plain", status: str = "200 OK", more: str = "") -> bytes:
    """A response with this body."""
    data = body.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n{more}\r\n"
    return head.encode() + data
