"""The octets of a web connection, every wait under a deadline."""

from __future__ import annotations

import errno
import math
import select
import socket
import ssl
import time
from collections.abc import Callable

MAX_HEADER = 16_384
MAX_BODY = 65_536  # of a form; set-up requests have a lower bound of their own
READ_TIMEOUT = 5  # seconds for a whole request, and for a kept connection until the next one
HURRY = 1.0  # seconds a request may take to arrive while others wait for a thread


class Reader:
    """What cheroot reads a connection through; the socket must not block.

    ``busy`` says whether others wait for this thread; ``slow`` is told once of a request that did not come in time.
    """

    def __init__(self, sock: socket.socket, busy: Callable[[], bool], slow: Callable[[], None]) -> None:
        self._sock = sock
        self._busy = busy
        self._slow = slow
        self._buffer = b""
        self._at = 0  # how much of the buffer was taken
        self._began = 0.0
        self._until = math.inf
        self.bytes_read = 0

    def begin(self) -> None:
        """A request begins now."""
        self._began = time.monotonic()
        self._until = self._began + READ_TIMEOUT

    def has_data(self) -> bool:
        """Whether a read would not wait."""
        if self._at < len(self._buffer):
            return True
        return isinstance(self._sock, ssl.SSLSocket) and self._sock.pending() > 0

    def ready(self, seconds: float) -> bool:
        """Whether something comes within this time; the end of the connection counts."""
        return self.has_data() or wait_for(self._sock, select.POLLIN, seconds)

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` octets, fewer only at the end. Raises OSError."""
        while size < 0 or len(self._buffer) - self._at < size:
            if not self._fill():
                break
        return self._take(len(self._buffer) if size < 0 else size)

    def readline(self, size: int = -1) -> bytes:
        """A line with its end, or ``size`` octets of it. Raises OSError."""
        searched = self._at
        while (end := self._buffer.find(b"\n", searched)) < 0:
            have = len(self._buffer) - self._at
            if 0 <= size <= have or not self._fill():
                return self._take(have if size < 0 else size)
            searched = self._at + have
        count = end + 1 - self._at
        return self._take(count if size < 0 else min(count, size))

    def close(self) -> None:
        """Nothing to give back: the socket is the connection's."""

    def _take(self, count: int) -> bytes:
        taken = self._buffer[self._at : self._at + count]
        self._at += len(taken)
        self.bytes_read += len(taken)
        return taken

    def _fill(self) -> bool:
        while True:
            now = time.monotonic()
            if now >= self._until or (now - self._began > HURRY and self._busy()):
                self._slow()
                # Not a TimeoutError: cheroot would answer, and wait once more for a client in mid-handshake.
                raise ConnectionResetError(errno.ECONNRESET, "the request did not come in time")
            try:
                data = self._sock.recv(MAX_HEADER)
            except (BlockingIOError, ssl.SSLWantReadError):
                wait_for(self._sock, select.POLLIN, min(self._until - now, HURRY / 2))
            except ssl.SSLWantWriteError:
                wait_for(self._sock, select.POLLOUT, min(self._until - now, HURRY / 2))
            else:
                self._buffer, self._at = self._buffer[self._at :] + data, 0
                return bool(data)


class Writer:
    """What cheroot writes a connection through; the socket must not block."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._held = b""
        self.bytes_written = 0

    def hold(self, data: bytes) -> None:
        """Takes octets that are to leave together with the next ones: one packet, one TLS record, one call."""
        self._held += data

    def write(self, data: bytes) -> int:
        """Sends everything. Raises OSError."""
        left: bytes | memoryview = self._held + data
        self._held = b""
        self.bytes_written += len(left)
        until = 0.0
        while left:
            try:
                sent = self._sock.send(left)
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError) as error:
                until = until or time.monotonic() + READ_TIMEOUT
                if time.monotonic() >= until:
                    raise TimeoutError("the client does not read what it asked for") from None
                event = select.POLLIN if isinstance(error, ssl.SSLWantReadError) else select.POLLOUT
                wait_for(self._sock, event, HURRY / 2)
            else:
                left = memoryview(left)[sent:]
        return len(data)

    def flush(self) -> None:
        """Sends what is held back. Raises OSError."""
        if self._held:
            self.write(b"")

    def close(self) -> None:
        """Nothing to give back: the socket is the connection's."""


def wait_for(sock: socket.socket, event: int, seconds: float) -> bool:
    """Waits until the socket is ready, and no longer than this; whether it is."""
    poll = select.poll()
    poll.register(sock, event)
    return bool(poll.poll(max(seconds, 0.0) * 1000))
