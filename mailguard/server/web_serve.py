"""HTTP on a listening socket that is open already: cheroot, its bounds set tight for strangers."""

from __future__ import annotations

import contextlib
import errno
import math
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

from mailguard.net.tls import TlsContexts

MAX_HEADER = 16_384
MAX_BODY = 65_536  # of a form; set-up requests have a lower bound of their own
READ_TIMEOUT = 5  # seconds for a whole request, and for a kept connection until the next one
HURRY = 1.0  # seconds a request may take to arrive while others wait for a thread
MAX_REQUESTS = 5  # on one connection
MAX_IDLE = 2_000  # connections that have not sent anything yet
_BACKLOG = 1024


class Reader:
    """What cheroot reads a connection through, every wait under one deadline.

    ``busy`` says whether others wait for this thread; ``slow`` is told once of a request that did not come in time.
    """

    def __init__(self, sock: socket.socket, busy: Callable[[], bool], slow: Callable[[], None]) -> None:
        self._sock = sock
        self._busy = busy
        self._slow = slow
        self._buffer = b""
        self._began = 0.0
        self._until = math.inf
        self.bytes_read = 0

    def begin(self) -> None:
        """A request begins now."""
        self._began = time.monotonic()
        self._until = self._began + READ_TIMEOUT

    def has_data(self) -> bool:
        """Whether a read would not wait."""
        return bool(self._buffer) or (isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0)

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` octets, fewer only at the end. Raises OSError."""
        while len(self._buffer) < size or size < 0:
            if not self._fill():
                break
        return self._take(len(self._buffer) if size < 0 else size)

    def readline(self, size: int = -1) -> bytes:
        """A line with its end, or ``size`` octets of it. Raises OSError."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if 0 <= size <= searched or not self._fill():
                return self._take(searched if size < 0 else size)
        return self._take(end + 1 if size < 0 else min(end + 1, size))

    def close(self) -> None:
        """Nothing to give back: the socket is the connection's."""

    def _take(self, count: int) -> bytes:
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        self.bytes_read += len(taken)
        return taken

    def _fill(self) -> bool:
        while True:
            now = time.monotonic()
            if now >= self._until or (now - self._began > HURRY and self._busy()):
                self._slow()
                # Not a TimeoutError: cheroot would answer, and wait once more for a client in mid-handshake.
                raise ConnectionResetError(errno.ECONNRESET, "the request did not come in time")
            self._sock.settimeout(min(self._until - now, HURRY / 2))
            try:
                data = self._sock.recv(MAX_HEADER)
            except TimeoutError:
                continue
            self._buffer += data
            return bool(data)


class Writer:
    """What cheroot writes a connection through."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.bytes_written = 0

    def write(self, data: bytes) -> int:
        """Sends everything. Raises OSError."""
        self._sock.settimeout(READ_TIMEOUT)
        self._sock.sendall(data)
        self.bytes_written += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing to give back: the socket is the connection's."""


def http_server(
    sock: socket.socket,
    app: Callable[..., Any],
    *,
    tls: TlsContexts | None,
    threads: int,
    log: Any,
    admit: Callable[[str], bool] = lambda ip: True,
    slow: Callable[[str], None] = lambda ip: None,
) -> Any:
    """A cheroot server; call its ``serve`` method (in a thread of its own) after ``prepare``, and ``stop`` to end.

    With ``tls`` it speaks HTTPS, with whichever certificate is loaded when a client comes; ``use_tls`` swaps them all.
    ``admit`` is asked before anything is read from an address, ``slow`` told of one whose request did not come.
    """
    from cheroot.server import HTTPConnection, HTTPRequest
    from cheroot.ssl import Adapter
    from cheroot.wsgi import Server

    class Request(HTTPRequest):
        """Says so when it is the connection's last, so that nobody holds a thread's attention for long."""

        def send_headers(self) -> None:
            if self.conn.requests_seen >= MAX_REQUESTS:
                self.close_connection = True
            super().send_headers()

    class Connection(HTTPConnection):
        """Reads under a deadline, and leaves TLS properly."""

        RequestHandlerClass = Request

        def __init__(self, server: Any, sock: socket.socket, makefile: Any = None) -> None:
            def file(sock: socket.socket, mode: str, _size: int) -> Reader | Writer:
                return Reader(sock, server.busy, lambda: slow(self.remote_addr)) if "r" in mode else Writer(sock)

            super().__init__(server, sock, file)
            self.heard = False

        def communicate(self) -> bool:
            self.requests_seen += 1
            self.rfile.begin()
            return bool(super().communicate())  # type: ignore[no-untyped-call]

        def close(self) -> None:
            if isinstance(self.socket, ssl.SSLSocket):
                self.socket.settimeout(0)
                with contextlib.suppress(OSError, ValueError):
                    self.socket.unwrap()  # sends close_notify and waits for nobody
            super().close()

    class Tls(Adapter):
        """Shakes hands in the thread that reads the request, not in the one that accepts."""

        def __init__(self, contexts: TlsContexts) -> None:
            super().__init__("", "")
            self.contexts = contexts

        def bind(self, sock: socket.socket) -> socket.socket:
            return sock

        def makefile(self, sock: socket.socket, mode: str = "r", bufsize: int = -1) -> Any:
            raise NotImplementedError  # the connection makes its own

        def wrap(self, sock: socket.socket) -> tuple[ssl.SSLSocket, dict[str, str]]:
            context = self.contexts.server_context()
            wrapped = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            return wrapped, self.get_environ()

        def get_environ(self) -> dict[str, str]:
            return {"HTTPS": "on"}

    class Inherited(Server):
        """Takes the socket it is given instead of opening one."""

        ConnectionClass = Connection

        def bind(self, family: int, type: int, proto: int = 0) -> socket.socket:
            # Connections inherit it; without, the body would wait for the client to acknowledge the header.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket = sock
            self.bind_addr = ("127.0.0.1", sock.getsockname()[1])
            return sock

        def prepare(self) -> None:
            super().prepare()
            # Other workers accept, too: whoever comes second must not wait for the next client.
            self.socket.settimeout(0)

        def process_conn(self, conn: Any) -> None:
            # A thread is for those who have said something; browsers open connections to have them at hand.
            if conn.heard or conn.rfile.has_data():
                super().process_conn(conn)
            elif self.idle_connections < MAX_IDLE and admit(conn.remote_addr or ""):
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
            log.debug("web", text=msg, exc_info=traceback)

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        environ["wsgi.url_scheme"] = "http" if tls is None else "https"  # whatever an absolute URI says
        return app(environ, start_response)

    server = Inherited(
        ("127.0.0.1", sock.getsockname()[1]), application, numthreads=threads, max=threads, server_name="mailguard",
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
