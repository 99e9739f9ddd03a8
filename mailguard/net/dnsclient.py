"""Asks the configured resolvers: several questions side by side over one UDP socket, over TCP what does not fit."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from mailguard.net.dnswire import Read, WireError, fits, question, read

PATIENCE = 1.5  # seconds for a server to answer before another one, or it again, is asked; doubles with each round
SILENCES, MUTE, BRIEF = 2, 30.0, 1.0
"""After so many questions in a row without any answer, so many seconds in which one gets no more than BRIEF."""
_RCODES = {1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED"}


@dataclass(slots=True)
class Asked:
    """One question on its way: its octets, what came of it, and why there is nothing, if there is nothing. ``silent``
    says that it was the time that ran out."""

    name: str
    rdtype: str
    octets: bytes
    found: Read | None = None
    problem: str = ""
    silent: bool = False
    failed: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Server:
    """One resolver, by its socket family and address."""

    family: int
    place: tuple[str | int, ...]

    @classmethod
    def at(cls, address: str, port: int) -> Server:
        """The resolver at an address."""
        (found, *_) = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST)
        return cls(int(found[0]), tuple(part for part in found[4] if isinstance(part, str | int)))


class DnsClient:
    """Asks these servers, the first one first. Safe for threads: each call has sockets, and so ports, of its own."""

    def __init__(self, servers: Sequence[Server], *, dnssec: bool = False) -> None:
        self._servers = tuple(servers)
        self._dnssec = dnssec
        self._silences = 0
        self._mute_until = 0.0

    def ask(self, questions: Sequence[tuple[str, str]], timeout: float) -> list[Asked]:
        """Asks ``(name, type)`` pairs; each comes back with ``found`` or with a ``problem``. Raises ValueError for a
        name that cannot be."""
        now = time.monotonic()
        brief = self._silences >= SILENCES and now < self._mute_until
        until = now + (min(timeout, BRIEF) if brief else timeout)
        numbers: set[int] = set()
        while len(numbers) < len(questions):
            numbers.add(int.from_bytes(os.urandom(2)))
        asked = [
            Asked(name, rdtype, question(number, name, rdtype, dnssec=self._dnssec))
            for number, (name, rdtype) in zip(numbers, questions, strict=True)
        ]
        turn = 0
        while (open_ := [one for one in asked if self._open(one)]) and (now := time.monotonic()) < until:
            number = turn % len(self._servers)
            wanted = [one for one in open_ if number not in one.failed]
            if wanted:
                patience = PATIENCE * 2 ** (turn // len(self._servers))
                self._exchange(number, wanted, min(until, now + patience), until)
            turn += 1
        for one in asked:
            if one.found is None and len(one.failed) < len(self._servers):
                one.problem, one.silent = f"no answer within {timeout:g} s", True
        self._note(asked, full=not brief and timeout >= BRIEF)
        return asked

    def _note(self, asked: Sequence[Asked], *, full: bool) -> None:
        if not all(one.silent for one in asked):
            self._silences = 0
        elif full:
            self._silences += 1
            self._mute_until = time.monotonic() + MUTE

    def _open(self, one: Asked) -> bool:
        return one.found is None and len(one.failed) < len(self._servers)

    def _exchange(self, number: int, asked: list[Asked], until: float, end: float) -> None:
        """One round with one server, over UDP; what is cut short, over TCP."""
        server = self._servers[number]
        waiting = {one.octets[:2]: one for one in asked}
        try:
            with socket.socket(server.family, socket.SOCK_DGRAM) as sock:
                sock.connect(server.place)
                for question_ in asked:
                    sock.send(question_.octets)
                while waiting and (left := until - time.monotonic()) > 0:
                    sock.settimeout(left)
                    wire = sock.recv(4096)
                    one = waiting.get(wire[:2])
                    if one is not None and fits(wire, one.octets) and self._take(one, wire, number, end):
                        del waiting[wire[:2]]
        except TimeoutError:
            pass
        except OSError as error:
            for left_over in waiting.values():
                _fail(left_over, number, str(error))

    def _take(self, one: Asked, wire: bytes, number: int, end: float) -> bool:
        """Takes an answer in; whether this server is through with the question."""
        try:
            got = read(wire, one.octets, one.rdtype)
            if got.truncated:
                got = read(self._over_tcp(number, one, end), one.octets, one.rdtype)
        except WireError:
            return False  # somebody else's, or damaged: the true one may come
        except OSError as error:
            _fail(one, number, f"over TCP: {error or 'time-out'}")
            return True
        if got.exists and got.rcode:
            _fail(one, number, _RCODES.get(got.rcode, f"response code {got.rcode}"))
        else:
            one.found = got
        return True

    def _over_tcp(self, number: int, one: Asked, end: float) -> bytes:
        server = self._servers[number]
        with socket.socket(server.family, socket.SOCK_STREAM) as sock:
            sock.settimeout(max(end - time.monotonic(), 0.01))
            sock.connect(server.place)
            sock.sendall(len(one.octets).to_bytes(2) + one.octets)
            wire = _exactly(sock, int.from_bytes(_exactly(sock, 2, end)), end)
        if not fits(wire, one.octets):
            raise OSError("another answer")
        return wire


def _fail(one: Asked, number: int, problem: str) -> None:
    one.failed.add(number)
    one.problem = problem


def _exactly(sock: socket.socket, size: int, end: float) -> bytes:
    got = b""
    while len(got) < size:
        sock.settimeout(max(end - time.monotonic(), 0.01))
        piece = sock.recv(size - len(got))
        if not piece:
            raise OSError("it hung up")
        got += piece
    return got
