"""DNS with a cache and a deadline, in which "there is none" and "ask again later" never look alike."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import dns.reversename

from mailguard.net.dnsclient import DnsClient, Server
from mailguard.net.dnswire import can_be
from mailguard.net.settings import DnsSettings

_Key = tuple[str, str]
_PATIENT = 2.0  # seconds without an answer that say something of the server


class DnsTemporaryError(Exception):
    """No usable answer now: time-out, SERVFAIL, REFUSED or no resolver in reach. Never means "no record"."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to one question.

    ``records`` are the record data as text in the zone-file form (TXT: the strings joined without a space,
    unquoted; names absolute, in lower case, without the last dot), ``exists`` is False on NXDOMAIN, ``ttl`` in
    seconds, ``authentic`` the AD bit of a trusted resolver.
    """

    records: tuple[str, ...]
    exists: bool = True
    ttl: int = 0
    authentic: bool = False


class Resolver(Protocol):
    """What the rest of mailguard knows of DNS; ``mailguard.testing.FakeResolver`` is another one."""

    def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> Answer:
        """Asks for ``rdtype`` (``"MX"``, ``"TXT"``...) at ``name``. Raises DnsTemporaryError."""
        ...


class DnsResolver:
    """A stub resolver with a bounded cache shared by all threads of a process. What failed is remembered, too, for a
    little while (RFC 9520 §3), and threads that ask the same at the same time wait for one answer."""

    def __init__(self, settings: DnsSettings) -> None:
        self._settings = settings
        self._client = DnsClient(_servers(settings), dnssec=settings.validating)
        self._cache: OrderedDict[_Key, tuple[float, Answer | str]] = OrderedDict()
        self._flights: dict[_Key, threading.Event] = {}
        self._lock = threading.Lock()

    def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> Answer:
        """See Resolver.query; answers from the cache while their time to live lasts."""
        known = self.at_hand(name, rdtype)
        if known is not None:
            return known
        (found,) = self.query_all([(name, rdtype)], timeout=timeout)
        if isinstance(found, DnsTemporaryError):
            raise found
        return found

    def query_all(
        self, questions: Sequence[tuple[str, str]], *, timeout: float | None = None
    ) -> list[Answer | DnsTemporaryError]:
        """Asks ``(name, type)`` pairs side by side; in their order an answer, or why there is none."""
        seconds = timeout or self._settings.timeout
        until = time.monotonic() + seconds
        keys = [_key(*question) for question in questions]
        found: dict[_Key, Answer | str] = {}
        while open_ := [key for key in dict.fromkeys(keys) if key not in found]:
            mine: list[_Key] = []
            others: list[threading.Event] = []
            with self._lock:
                for key in open_:
                    if (known := self._recall(key)) is not None:
                        found[key] = known
                    elif flight := self._flights.get(key):
                        others.append(flight)
                    else:
                        self._flights[key] = threading.Event()
                        mine.append(key)
            if mine:
                found |= self._fly(mine, until - time.monotonic())
            for flight in others:
                if not flight.wait(max(until - time.monotonic(), 0)):
                    found |= {key: f"no answer within {seconds:g} s" for key in open_ if key not in found}
                    break
        return [_told(key, found[key]) for key in keys]

    def at_hand(self, name: str, rdtype: str) -> Answer | None:
        """The answer, if it need not be asked for. Raises DnsTemporaryError for a failure that is remembered."""
        key = _key(name, rdtype)
        with self._lock:
            known = self._recall(key)
        if isinstance(known, str):
            raise DnsTemporaryError(f"{name} {rdtype}: {known}")
        return known

    def _recall(self, key: _Key) -> Answer | str | None:
        hit = self._cache.get(key)
        if hit is None or hit[0] <= time.monotonic():
            return None
        self._cache.move_to_end(key)
        return hit[1]

    def _fly(self, keys: list[_Key], timeout: float) -> dict[_Key, Answer | str]:
        """Asks for these and nobody else does meanwhile; what came is in the cache before others look again."""
        found: dict[_Key, Answer | str] = {}
        try:
            for key, answer, keep in self._ask(keys, timeout):
                found[key] = answer
                if keep and self._settings.cache_size:
                    with self._lock:
                        self._cache[key] = (time.monotonic() + keep, answer)
                        if len(self._cache) > self._settings.cache_size:
                            self._cache.popitem(last=False)
        finally:
            with self._lock:
                for key in keys:
                    self._flights.pop(key).set()
        return found

    def _ask(self, keys: list[_Key], timeout: float) -> Iterator[tuple[_Key, Answer | str, float]]:
        """Each with its answer, or the text of what is wrong, and the seconds to remember it."""
        possible = [key for key in keys if can_be(*key)]
        for key in set(keys).difference(possible):
            yield key, Answer((), exists=False, ttl=60), 60
        for key, one in zip(possible, self._client.ask(possible, max(timeout, 0.01)) if possible else (), strict=True):
            if one.found is None:
                # A question that was cut short says nothing of the next one, which may have more time.
                patient = not one.silent or timeout >= _PATIENT
                yield key, one.problem or "no answer", self._settings.failure_ttl if patient else 0.0
                continue
            authentic = self._settings.validating and one.found.authentic
            answer = Answer(one.found.records, one.found.exists, one.found.ttl, authentic)
            yield key, answer, min(max(answer.ttl, 1), 86_400)


def _key(name: str, rdtype: str) -> _Key:
    return name.lower().rstrip("."), rdtype


def _told(key: _Key, found: Answer | str) -> Answer | DnsTemporaryError:
    return found if isinstance(found, Answer) else DnsTemporaryError(f"{key[0]} {key[1]}: {found}")


def _servers(settings: DnsSettings) -> list[Server]:
    if settings.nameservers:
        return [_server(text) for text in settings.nameservers]
    from dns.resolver import Resolver as Stub  # brings asyncio with it, which commands need not load

    stub = Stub()  # raises where the system has no resolver configured
    return [Server.at(str(address), stub.port) for address in stub.nameservers]


def _server(text: str) -> Server:
    host, _, port = text.rpartition(":") if text.count(":") == 1 or text.startswith("[") else (text, "", "53")
    return Server.at(str(ipaddress.ip_address(host.strip("[]"))), int(port))


def ask_all(
    resolver: Resolver, questions: Sequence[tuple[str, str]], *, timeout: float | None = None
) -> list[Answer | DnsTemporaryError]:
    """Asks several ``(name, type)`` pairs, side by side where the resolver can; in their order an answer each, or why
    there is none now."""
    together = getattr(resolver, "query_all", None)
    if together is not None:
        answers: list[Answer | DnsTemporaryError] = together(questions, timeout=timeout)
        return answers
    until = None if timeout is None else time.monotonic() + timeout
    found = []
    for n, (name, rdtype) in enumerate(questions):
        share = None if until is None else (until - time.monotonic()) / (len(questions) - n)
        found.append(_asked(resolver, name, rdtype, share))
    return found


def _asked(resolver: Resolver, name: str, rdtype: str, timeout: float | None) -> Answer | DnsTemporaryError:
    if timeout is not None and timeout <= 0:
        return DnsTemporaryError(f"{name} {rdtype}: no time left to ask")
    try:
        return resolver.query(name, rdtype, timeout=timeout)
    except DnsTemporaryError as error:
        return error


def addresses(resolver: Resolver, host: str, *, ipv6: bool = True) -> Sequence[str]:
    """The IPv6 and IPv4 addresses of a host. Raises DnsTemporaryError if none is known and one kind failed."""
    found: list[str] = []
    failed: DnsTemporaryError | None = None
    for rdtype in ("AAAA", "A") if ipv6 else ("A",):
        try:
            found += resolver.query(host, rdtype).records
        except DnsTemporaryError as error:
            failed = error
    if failed and not found:
        raise failed
    return found


def reverse_name(address: str) -> str:
    """The ``in-addr.arpa`` or ``ip6.arpa`` name of an address, without the last dot."""
    parts = address.split(".")
    if len(parts) == 4 and all(map(str.isdecimal, parts)):
        return f"{'.'.join(reversed(parts))}.in-addr.arpa"
    return dns.reversename.from_address(address).to_text().rstrip(".")
