"""One TCP connection, plain or TLS, on which every wait has a deadline."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Any

from mailguard.model.session import TlsInfo

_MUCH = 32_768  # octets at a time; libc would map memory for more, and unmap it, at every read
_LITTLE = 4_096  # the same where only commands are expected: it is held ready while the peer is silent
_TIMEVAL = struct.Struct("ll")


class StreamTimeoutError(TimeoutError):
    """The deadline of the stream passed while it waited for its peer."""


class HungUpError(OSError):
    """This server is ending: nothing more will be read, but a last word can be written."""


class _TlsSocket(ssl.SSLSocket):
    """One that is closed where its peer is gone already: ``wrap_socket`` would leave it open then."""

    def getpeername(self) -> Any:
        try:
            return super().getpeername()
        except OSError as error:
            self.close()
            raise ConnectionResetError(errno.ECONNRESET, "the peer has gone") from error


class Stream:
    """A connected socket. Not for use by two threads at once, except ``hang_up``.

    In clear the kernel waits, and gives up by itself: one system call for what arrives. In TLS the socket does not
    block and waiting happens in ``poll``, never inside OpenSSL, so that an idle connection holds no read buffer.
    ``timeout`` bounds one wait in seconds; ``deadline``, a time of ``time.monotonic``, bounds all waits together,
    whichever comes first. ``under_way`` is for the server to set while its peer is in the middle of something that it
    should be let finish when the server ends.
    """

    def __init__(self, sock: socket.socket, *, timeout: float = 300.0) -> None:
        if sock.gettimeout() is not None:
            sock.setblocking(True)
        if sock.family != socket.AF_UNIX:
            # Before any handshake: tickets and a small greeting would else wait for a delayed ACK.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock: socket.socket | ssl.SSLSocket = sock
        self.timeout = timeout
        self.deadline = float("inf")
        self._clear = True
        self._patience = 0.0  # seconds that the kernel waits for octets in clear
        self.tls: TlsInfo | None = None
        self.on_close: Callable[[], None] | None = None  # called once
        self.under_way = False
        self._hung_up = False

    def set_deadline(self, seconds: float | None) -> None:
        """From now on every wait ends at the latest in ``seconds``; None removes the deadline."""
        self.deadline = float("inf") if seconds is None else time.monotonic() + seconds

    def fileno(self) -> int:
        """The descriptor, for a selector."""
        return self.sock.fileno()

    def pending(self) -> bool:
        """Whether decrypted bytes are waiting that a selector cannot see."""
        return isinstance(self.sock, ssl.SSLSocket) and self.sock.pending() > 0

    def read(self, *, much: bool = True, readable: bool = False) -> bytes:
        """What has arrived, at least one octet; ``b""`` once the peer has closed. ``much`` says that more than a
        command may come, ``readable`` that ``wait_readable`` has just returned.

        Raises StreamTimeoutError, HungUpError, OSError.
        """
        limit = _MUCH if much else _LITTLE
        if self._clear:
            data = self._read_clear(limit)
        else:
            data = self._read_tls(limit, wait=not readable and not self.pending())
        if not data and self._hung_up:
            raise HungUpError("the server is ending")
        return data

    def _read_clear(self, limit: int) -> bytes:
        patience = self._left()
        if patience != self._patience:
            whole, part = divmod(patience, 1)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(int(whole), int(part * 1e6) or 1))
            self._patience = patience
        try:
            return self.sock.recv(limit)
        except BlockingIOError:
            raise StreamTimeoutError("the peer did not answer in time") from None

    def _read_tls(self, limit: int, *, wait: bool) -> bytes:
        while True:
            if wait:
                self._wait(select.POLLIN)
            try:
                return self.sock.recv(limit)
            except ssl.SSLWantReadError:
                wait = True
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)
                wait = False
            except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
                return b""

    def wait_readable(self) -> None:
        """Returns once octets are there to be read. Raises StreamTimeoutError."""
        if not self.pending():
            self._wait(select.POLLIN)

    def has_input(self) -> bool:
        """Whether octets in clear are there to be read already. Never waits."""
        try:
            return bool(self._clear and self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends all of it. Raises StreamTimeoutError, OSError."""
        flags = socket.MSG_DONTWAIT if self._clear else 0
        view: bytes | bytearray | memoryview = data
        while view:
            try:
                sent = self.sock.send(view, flags)
                if sent == len(view):
                    return
                view = memoryview(view)[sent:]
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._wait(select.POLLOUT)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)

    def start_tls(
        self, context: ssl.SSLContext, *, server_side: bool = True, server_hostname: str | None = None
    ) -> TlsInfo:
        """Shakes hands and encrypts from here on. Raises StreamTimeoutError, ssl.SSLError, OSError."""
        self.sock.setblocking(False)
        context.sslsocket_class = _TlsSocket
        tls = context.wrap_socket(
            self.sock,
            server_side=server_side,
            server_hostname=server_hostname,
            do_handshake_on_connect=False,
        )
        self.sock, self._clear = tls, False
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)
        cipher = tls.cipher()
        # mailguard.net.tls notes on the context's SNI callback which name the client asked for.
        sni = getattr(tls, "requested_name", "") or server_hostname or ""
        verified = not server_side and context.verify_mode == ssl.CERT_REQUIRED
        self.tls = TlsInfo(tls.version() or "", cipher[0] if cipher else "", sni, verified)
        return self.tls

    def _left(self) -> float:
        """Seconds that the next wait may take. Raises StreamTimeoutError where there are none."""
        left = min(self.timeout, self.deadline - time.monotonic())
        if left <= 0:
            raise StreamTimeoutError("deadline passed")
        return left

    def _wait(self, event: int) -> None:
        left = self._left()
        poll = select.poll()
        poll.register(self.sock, event)
        if not poll.poll(left * 1000):
            raise StreamTimeoutError("the peer did not answer in time")

    def hang_up(self) -> None:
        """Lets the thread that reads come to an end, with a HungUpError; for another thread to call. Never raises."""
        self._hung_up = True
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Closes the connection; what was written before is still sent. Never raises."""
        with contextlib.suppress(OSError, ValueError):
            self.sock.shutdown(socket.SHUT_RDWR)  # or what the client sent and nobody read would reset the connection
        with contextlib.suppress(OSError):
            self.sock.close()
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            on_close()
