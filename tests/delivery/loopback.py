"""A listener on loopback with a thread for each connection: what the scripted peers have in common."""

from __future__ import annotations

import contextlib
import socket
import threading


class Loopback:
    """Calls ``run`` with each accepted socket. ``live`` holds every socket that ``close`` is to end."""

    def __init__(self) -> None:
        self.connections = 0
        self.live: list[socket.socket] = []
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def run(self, sock: socket.socket) -> None:
        raise NotImplementedError

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            self.connections += 1
            self.live.append(sock)
            threading.Thread(target=self._served, args=(sock,), daemon=True).start()

    def _served(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            self.run(sock)

    def close(self) -> None:
        for sock in [self._sock, *self.live]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        self._thread.join(5)
