"""Outgoing connections: the addresses of one host raced, so that a dead IPv6 route costs a quarter of a second."""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Sequence
from itertools import zip_longest

STAGGER = 0.25  # seconds between starts, RFC 8305 §5


class DialError(OSError):
    """No address could be connected to; the text names each with its failure."""


def interleave(addresses: Sequence[str]) -> list[str]:
    """IPv6 and IPv4 in turn, IPv6 first, each kind in its order (RFC 8305 §4)."""
    six = [a for a in addresses if ":" in a]
    four = [a for a in addresses if ":" not in a]
    return [a for pair in zip_longest(six, four) for a in pair if a is not None]


def dial(addresses: Sequence[str], port: int, *, timeout: float, sources: Sequence[str] = ()) -> socket.socket:
    """A connected socket to the first address that answers. Raises DialError.

    ``timeout`` in seconds for all together; ``sources`` are our own addresses to come from, by family.
    """
    race = _Race(interleave(addresses), port, sources)
    try:
        return race.run(time.monotonic() + timeout)
    finally:
        race.close()


class _Race:
    def __init__(self, addresses: list[str], port: int, sources: Sequence[str]) -> None:
        self.waiting = addresses[::-1]
        self.port = port
        self.sources = sources
        self.open: dict[int, tuple[socket.socket, str]] = {}
        self.failed: list[str] = []
        self.poll = select.poll()

    def run(self, until: float) -> socket.socket:
        while True:
            winner = self.start() if self.waiting else None
            if winner is not None:
                return winner
            if not self.open and not self.waiting:
                raise DialError("; ".join(self.failed) or "no address")
            left = until - time.monotonic()
            if left <= 0:
                names = ", ".join(f"{address}:{self.port}" for _, address in self.open.values())
                raise DialError("; ".join([*self.failed, f"{names}: no answer in time"]))
            winner = self.wait(min(left, STAGGER) if self.waiting else left)
            if winner is not None:
                return winner

    def start(self) -> socket.socket | None:
        address = self.waiting.pop()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = None
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setblocking(False)
            source = next((s for s in self.sources if (":" in s) == (":" in address)), None)
            if source:
                sock.bind((source, 0))
            code = sock.connect_ex((address, self.port))
        except OSError as error:
            if sock is not None:
                sock.close()
            self.failed.append(f"{address}:{self.port}: {error.strerror or error}")
            return None
        if code in (0, errno.EISCONN):
            return sock
        if code != errno.EINPROGRESS:
            self.fail(sock, address, code)
            return None
        self.open[sock.fileno()] = (sock, address)
        self.poll.register(sock, select.POLLOUT)
        return None

    def wait(self, seconds: float) -> socket.socket | None:
        for fd, _ in self.poll.poll(seconds * 1000):
            sock, address = self.open.pop(fd)
            self.poll.unregister(fd)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code == 0:
                return sock
            self.fail(sock, address, code)
        return None

    def fail(self, sock: socket.socket, address: str, code: int) -> None:
        sock.close()
        self.failed.append(f"{address}:{self.port}: {os.strerror(code)}")

    def close(self) -> None:
        for sock, _ in self.open.values():
            sock.close()
