"""HTTP on a listening socket that is open already: cheroot, its bounds set tight for strangers."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

from mailguard.net.tls import TlsContexts

MAX_HEADER = 16_384
MAX_BODY = 8_192
READ_TIMEOUT = 5  # seconds
MAX_REQUESTS = 5  # on one connection
_BACKLOG = 1024


def http_server(
    sock: socket.socket, app: Callable[..., Any], *, tls: TlsContexts | None, threads: int, log: Any
) -> Any:
    """A cheroot server; call its ``serve`` method (in a thread of its own) after ``prepare``, and ``stop`` to end.

    With ``tls`` it speaks HTTPS, with whichever certificate is loaded when a client comes; ``use_tls`` swaps them all.
    """
    from cheroot.makefile import StreamReader, StreamWriter
    from cheroot.server import HTTPConnection
    from cheroot.ssl import Adapter
    from cheroot.wsgi import Server

    class Connection(HTTPConnection):
        """Ends after a few requests, so that nobody holds a thread's attention for long."""

        def communicate(self) -> bool:
            again: Any = super().communicate()  # type: ignore[no-untyped-call]
            return bool(again) and self.requests_seen < MAX_REQUESTS

    class Tls(Adapter):
        """Shakes hands in the thread that reads the request, not in the one that accepts."""

        def __init__(self, contexts: TlsContexts) -> None:
            super().__init__("", "")
            self.contexts = contexts

        def bind(self, sock: socket.socket) -> socket.socket:
            return sock

        def makefile(self, sock: socket.socket, mode: str = "r", bufsize: int = -1) -> Any:
            return (StreamReader if "r" in mode else StreamWriter)(sock, mode, bufsize)

        def wrap(self, sock: socket.socket) -> tuple[ssl.SSLSocket, dict[str, str]]:
            context = self.contexts.server_context()
            wrapped = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            return wrapped, self.get_environ()

        def get_environ(self) -> dict[str, str]:
            return {"wsgi.url_scheme": "https", "HTTPS": "on"}

    class Inherited(Server):
        """Takes the socket it is given instead of opening one."""

        ConnectionClass = Connection

        def bind(self, family: int, type: int, proto: int = 0) -> socket.socket:
            # Connections inherit it; without, the body would wait for the client to acknowledge the header.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket = sock
            self.bind_addr = ("127.0.0.1", sock.getsockname()[1])
            return sock

        def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
            log.debug("web", text=msg, exc_info=traceback)

    server = Inherited(
        ("127.0.0.1", sock.getsockname()[1]), app, numthreads=threads, max=threads, server_name="mailguard",
        timeout=READ_TIMEOUT, request_queue_size=_BACKLOG,
    )  # fmt: skip
    server.shutdown_timeout = 2
    server.max_request_header_size = MAX_HEADER
    server.max_request_body_size = MAX_BODY
    if tls is not None:
        server.ssl_adapter = Tls(tls)
    return server


def use_tls(server: Any, tls: TlsContexts | None) -> None:
    """From the next connection on these certificates are shown, where the server speaks HTTPS at all."""
    if tls is not None and server.ssl_adapter is not None:
        server.ssl_adapter.contexts = tls
