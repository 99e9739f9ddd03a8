"""Cheroot as we want it: its bounds set tight for strangers, its sockets inherited, its waits under deadlines.

To be imported only where there is a listener for it: cheroot weighs a few megabytes.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

from cheroot.server import HTTPConnection, HTTPRequest
from cheroot.ssl import Adapter
from cheroot.wsgi import Server

from mailguard.net.tls import TlsContexts
from mailguard.server.web_stream import MAX_BODY, MAX_HEADER, READ_TIMEOUT, Reader, Writer

MAX_REQUESTS = 5  # on one connection
MAX_IDLE = 2_000  # connections that have not sent anything yet
_BACKLOG = 1024
_SOON = 0.0005  # seconds a thread waits for the next request of the client it just served
Wsgi = Callable[[dict[str, Any], Any], Any]


class Request(HTTPRequest):
    """Says so when it is the connection's last, so that nobody holds a thread's attention for long."""

    def send_headers(self) -> None:
        """Hands the header section to the writer, where it waits for the body."""
        if self.conn.requests_seen >= MAX_REQUESTS:
            self.close_connection = True
        connection, self.conn = self.conn, _Holding(self.conn)
        try:
            super().send_headers()
        finally:
            self.conn = connection


class _Holding:
    """A connection that holds back what is written to it."""

    def __init__(self, connection: Any) -> None:
        self.wfile = self
        self.write = connection.wfile.hold


class Connection(HTTPConnection):
    """Reads under a deadline, and leaves TLS properly. Its socket never blocks."""

    RequestHandlerClass = Request

    def __init__(self, server: Inherited, sock: socket.socket, makefile: Any = None) -> None:
        # In place of the parent's, which also makes two caches for what only Unix sockets have.
        sock.settimeout(0)
        self.server = server
        self.socket = sock
        self.requests_seen = 0
        self.rfile = Reader(sock, server.busy, lambda: server.slow(self.remote_addr or ""))
        self.wfile = Writer(sock)
        self.heard = False

    def communicate(self) -> bool:
        """Answers what comes without much of a pause; whether the connection is to be kept for more."""
        while self._answer():
            # A client that asks at once need not go through the selector and another thread.
            if self.server.busy() or not self.rfile.ready(_SOON):
                return True
        return False

    def _answer(self) -> bool:
        self.requests_seen += 1
        self.rfile.begin()
        kept = bool(super().communicate())  # type: ignore[no-untyped-call]
        with contextlib.suppress(OSError):
            self.wfile.flush()
            return kept
        return False

    def close(self) -> None:
        """Ends it, with close_notify where it is TLS."""
        if isinstance(self.socket, ssl.SSLSocket):
            with contextlib.suppress(OSError, ValueError):
                self.socket.unwrap()  # sends close_notify and waits for nobody
        super().close()


class Tls(Adapter):
    """Shakes hands in the thread that reads the request, not in the one that accepts."""

    def __init__(self, contexts: TlsContexts) -> None:
        super().__init__("", "")
        self.contexts = contexts

    def bind(self, sock: socket.socket) -> socket.socket:
        """Leaves the listening socket as it is."""
        return sock

    def makefile(self, sock: socket.socket, mode: str = "r", bufsize: int = -1) -> Any:
        """Never asked: the connection makes its own."""
        raise NotImplementedError

    def wrap(self, sock: socket.socket) -> tuple[ssl.SSLSocket, dict[str, str]]:
        """TLS on an accepted socket, with whichever certificates are loaded now."""
        context = self.contexts.server_context()
        wrapped = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return wrapped, self.get_environ()

    def get_environ(self) -> dict[str, str]:
        """What the application hears of it."""
        return {"HTTPS": "on"}


class Inherited(Server):
    """Takes the socket it is given instead of opening one.

    ``admit`` is asked before anything is read from an address, ``slow`` told of one whose request did not come.
    """

    ConnectionClass = Connection

    def __init__(
        self,
        sock: socket.socket,
        app: Wsgi,
        *,
        threads: int,
        log: Any,
        admit: Callable[[str], bool],
        slow: Callable[[str], None],
    ) -> None:
        super().__init__(
            ("127.0.0.1", sock.getsockname()[1]), app, numthreads=threads, max=threads, server_name="mailguard",
            timeout=READ_TIMEOUT, request_queue_size=_BACKLOG, shutdown_timeout=2,
        )  # fmt: skip
        self.max_request_header_size = MAX_HEADER
        self.max_request_body_size = MAX_BODY
        self.slow = slow
        self._given = sock
        self._admit = admit
        self._log = log

    def bind(self, family: int, type: int, proto: int = 0) -> socket.socket:
        """Gives the socket that it was made with."""
        sock = self._given
        # Connections inherit it; without, the body would wait for the client to acknowledge the header.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = sock
        self.bind_addr = ("127.0.0.1", sock.getsockname()[1])
        return sock

    def prepare(self) -> None:
        """Makes the threads."""
        super().prepare()
        # Other workers accept, too: whoever comes second must not wait for the next client.
        self.socket.settimeout(0)

    def process_conn(self, conn: Any) -> None:
        """Gives a connection a thread, once it has said something: browsers open some only to have them at hand."""
        if conn.heard or conn.rfile.has_data():
            super().process_conn(conn)
        elif self.idle_connections < MAX_IDLE and self._admit(conn.remote_addr or ""):
            conn.heard = True
            self._waiting.put(conn)
        else:
            conn.close()

    @property
    def _waiting(self) -> Any:
        return self._connections  # type: ignore[attr-defined]  # made by ``prepare``

    @property
    def idle_connections(self) -> int:
        """How many connections wait to say something."""
        return int(self._waiting._num_connections)

    def busy(self) -> bool:
        """Whether requests wait for a thread."""
        return bool(self.requests.qsize > 0)

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:
        """Hides in the debug log what strangers cause."""
        self._log.debug("web", text=msg, exc_info=traceback)
