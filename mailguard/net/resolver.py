"""DNS with a cache and a deadline, in which "there is none" and "ask again later" never look alike."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import dns.exception
import dns.flags
import dns.rdatatype
import dns.resolver
import dns.reversename
from pydantic import BaseModel, ConfigDict, Field


class DnsSettings(BaseModel):
    """``[dns]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    nameservers: tuple[str, ...] = Field(
        default=(), description="resolvers to ask, as `address` or `address:port`; empty: those of the system"
    )
    timeout: float = Field(default=5.0, gt=0, le=60, description="seconds one question may take in all")
    cache_size: int = Field(default=10_000, ge=0, description="answers kept per worker")
    validating: bool = Field(
        default=False, description="the resolver is ours and validates DNSSEC: believe its AD bit (DANE)"
    )


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
    """A stub resolver over dnspython with a bounded cache shared by all threads of a process."""

    def __init__(self, settings: DnsSettings) -> None:
        self._settings = settings
        self._resolver = _stub(settings)
        self._cache: OrderedDict[tuple[str, str], tuple[float, Answer]] = OrderedDict()
        self._lock = threading.Lock()

    def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> Answer:
        """See Resolver.query; answers from the cache while their time to live lasts."""
        key = (name.lower().rstrip("."), rdtype)
        now = time.monotonic()
        with self._lock:
            hit = self._cache.get(key)
            if hit and hit[0] > now:
                self._cache.move_to_end(key)
                return hit[1]
        answer = self._ask(*key, timeout or self._settings.timeout)
        if self._settings.cache_size:
            with self._lock:
                self._cache[key] = (now + min(max(answer.ttl, 1), 86_400), answer)
                while len(self._cache) > self._settings.cache_size:
                    self._cache.popitem(last=False)
        return answer

    def _ask(self, name: str, rdtype: str, timeout: float) -> Answer:
        try:
            found = self._resolver.resolve(name + ".", rdtype, lifetime=timeout, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN as error:
            return Answer((), exists=False, ttl=_negative_ttl(error))
        except (dns.resolver.NoNameservers, dns.exception.Timeout, OSError) as error:
            raise DnsTemporaryError(f"{name} {rdtype}: {error}") from error
        except dns.exception.DNSException:
            # A name that cannot exist (too long, an empty label) has no records.
            return Answer((), exists=False, ttl=60)
        if found.rrset is None:
            return Answer((), ttl=60)
        authentic = self._settings.validating and bool(found.response.flags & dns.flags.AD)
        records = tuple(record_text(record, rdtype) for record in found.rrset)
        return Answer(records, ttl=found.rrset.ttl, authentic=authentic)


def _stub(settings: DnsSettings) -> dns.resolver.Resolver:
    if not settings.nameservers:
        resolver = dns.resolver.Resolver()
    else:
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers = [_nameserver(text) for text in settings.nameservers]
    resolver.use_edns(0, dns.flags.DO if settings.validating else 0, 1232)
    return resolver


def _nameserver(text: str) -> dns.nameserver.Nameserver:
    host, _, port = text.rpartition(":") if text.count(":") == 1 or text.startswith("[") else (text, "", "53")
    return dns.nameserver.Do53Nameserver(str(ipaddress.ip_address(host.strip("[]"))), int(port))


def _negative_ttl(error: dns.resolver.NXDOMAIN) -> int:
    for response in error.responses().values():  # type: ignore[no-untyped-call]
        for rrset in response.authority:
            if rrset.rdtype == dns.rdatatype.SOA:
                return int(min(rrset.ttl, rrset[0].minimum))
    return 60


def record_text(record: object, rdtype: str) -> str:
    """A record of dnspython in the form of ``Answer.records``."""
    if rdtype in ("TXT", "SPF"):
        return b"".join(record.strings).decode("utf-8", "surrogateescape")  # type: ignore[attr-defined]
    text = str(record)
    if rdtype in ("MX", "PTR", "CNAME", "NS", "SRV"):
        return " ".join(part.rstrip(".").lower() or "." for part in text.split(" "))
    return text


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
    return dns.reversename.from_address(address).to_text().rstrip(".")
