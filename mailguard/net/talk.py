"""A short conversation with a program nearby, over TCP or a Unix socket, under one deadline: for bridges to filters."""

from __future__ import annotations

import re
import socket
import time
from types import TracebackType
from typing import Annotated

from pydantic import AfterValidator

_TCP = re.compile(r"(?:inet:)?(?:(?P<v6>\[[0-9a-fA-F:.]+\])|(?P<host>[^\s:@\[\]/]+)):(?P<port>\d{1,5})\Z")
_SENDMAIL = re.compile(r"inet6?:(?P<port>\d{1,5})@(?P<host>[^\s@\[\]]+)\Z")
_MAX_REPLY = 16_777_216  # octets


def parse_place(place: str) -> str | tuple[str, int]:
    """Where a program listens: ``host:port``, ``[::1]:port``, ``inet:port@host``, ``/path`` or ``unix:/path``.

    Returns the path of a socket, or host and port. Raises ValueError.
    """
    path = place.removeprefix("unix:").removeprefix("local:")
    if path.startswith("/"):
        return path
    match = _TCP.match(place) or _SENDMAIL.match(place)
    if match is None or not 0 < int(match["port"]) < 65_536:
        raise ValueError(f'"{place}" is neither host:port nor /the/path/of/a/socket')
    v6 = match.groupdict().get("v6")
    return (v6 or match["host"]).strip("[]"), int(match["port"])


def _place(place: str) -> str:
    parse_place(place)
    return place


Place = Annotated[str, AfterValidator(_place)]
"""A place as an option of a plugin, looked at when the policy is loaded."""


class Talk:
    """One connection; everything on it together may take ``seconds``. Every method raises OSError, of which
    TimeoutError is one, and EOFError where the other side hangs up in the middle."""

    def __init__(self, place: str, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._buffer = b""
        where = parse_place(place)
        if isinstance(where, str):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._socket.settimeout(self._left())
                self._socket.connect(where)
            except OSError:
                self._socket.close()
                raise
        else:
            self._socket = socket.create_connection(where, timeout=self._left())
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, *chunks: bytes | memoryview) -> None:
        """Sends all of it."""
        for chunk in chunks:
            self._socket.settimeout(self._left())
            self._socket.sendall(chunk)

    def end(self) -> None:
        """Says that nothing more will be sent."""
        self._socket.shutdown(socket.SHUT_WR)

    def read(self, count: int) -> bytes:
        """Exactly so many octets."""
        while len(self._buffer) < count:
            if not self._more(max(65_536, count - len(self._buffer))):
                raise EOFError("the connection was closed in the middle of an answer")
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def read_until(self, end: bytes) -> bytes:
        """Everything up to ``end``, which is taken away; what is left where the other side hangs up first."""
        while end not in self._buffer:
            if not self._more(65_536):
                taken, self._buffer = self._buffer, b""
                return taken
        taken, _, self._buffer = self._buffer.partition(end)
        return taken

    def read_all(self) -> bytes:
        """Everything until the other side hangs up."""
        while self._more(65_536):
            pass
        taken, self._buffer = self._buffer, b""
        return taken

    def close(self) -> None:
        """Hangs up."""
        self._socket.close()

    def __enter__(self) -> Talk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _more(self, count: int) -> bool:
        if len(self._buffer) > _MAX_REPLY:
            raise OSError(f"the answer is longer than {_MAX_REPLY} octets")
        self._socket.settimeout(self._left())
        octets = self._socket.recv(min(count, 1 << 20))
        self._buffer += octets
        return bool(octets)

    def _left(self) -> float:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        return left
