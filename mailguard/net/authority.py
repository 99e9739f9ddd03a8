"""The servers that a zone is delegated to, asked directly: no cache stands between."""

from __future__ import annotations

import ipaddress
import threading
from dataclasses import dataclass, field

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

from mailguard.net.dnswire import record_text
from mailguard.net.resolver import Answer, Resolver, addresses


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone and the servers it is delegated to, name and addresses."""

    name: str
    servers: dict[str, tuple[str, ...]] = field(default_factory=dict)


class Authority:
    """Finds and asks the servers of zones. Safe for threads; a server that does not answer is asked only once."""

    def __init__(self, resolver: Resolver, *, port: int = 53, timeout: float = 2.0) -> None:
        self._resolver = resolver
        self._port = port
        self._timeout = timeout
        self._lock = threading.Lock()
        self._zones: dict[str, Zone] = {}
        self.silent: dict[str, str] = {}

    def zone(self, name: str) -> Zone:
        """The zone that a name lies in, without servers if none is found. Raises DnsTemporaryError."""
        with self._lock:
            for above in _upwards(name):
                if above in self._zones:
                    return self._zones[above]
            for above in _upwards(name):
                servers = self._resolver.query(above, "NS").records
                if servers:
                    zone = Zone(above, {host: tuple(addresses(self._resolver, host)) for host in servers})
                    self._zones[above] = zone
                    return zone
        return Zone(name)

    def ask(self, address: str, name: str, rdtype: str) -> Answer | None:
        """What one server has for a name; None if it does not answer or does not know the zone."""
        if address in self.silent:
            return None
        query = dns.message.make_query(name + ".", rdtype, flags=0, use_edns=0, payload=1232)
        try:
            host = str(ipaddress.ip_address(address))
            reply, _ = dns.query.udp_with_fallback(query, host, timeout=self._timeout, port=self._port)
        except (dns.exception.DNSException, OSError, ValueError) as error:
            self.silent[address] = str(error) or type(error).__name__
            return None
        if reply.rcode() == dns.rcode.NXDOMAIN:
            return Answer((), exists=False)
        if reply.rcode() != dns.rcode.NOERROR or not reply.flags & dns.flags.AA:
            return None
        kind = dns.rdatatype.from_text(rdtype)
        found = [rrset for rrset in reply.answer if rrset.rdtype == kind]
        return Answer(tuple(record_text(record, rdtype) for rrset in found for record in rrset))


def answers_of(authority: Authority, name: str, rdtype: str) -> dict[str, Answer]:
    """What each server of the name's zone has, by the server's name. Raises DnsTemporaryError."""
    found: dict[str, Answer] = {}
    for host, hosts in authority.zone(name).servers.items():
        for address in hosts:
            answer = authority.ask(address, name, rdtype)
            if answer is not None:
                found[host] = answer
                break
    return found


def _upwards(name: str) -> list[str]:
    """The name and those above it, down to two labels."""
    labels = name.split(".")
    return [".".join(labels[at:]) for at in range(max(1, len(labels) - 1))]
