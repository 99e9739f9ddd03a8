"""Which way mail goes out: the domain's own MX, or a host that the configuration names."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailguard.delivery.relay_settings import DestinationSettings, RelaySettings, RouteSettings, TlsLevel
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope

_HOST = re.compile(r"\[(?P<host>[^\]]+)\]:(?P<port>\d{1,5})(?: as (?P<user>.+))?\Z")


@dataclass(frozen=True, slots=True)
class Hop:
    """A next hop: ``host`` itself, or the MX of the domain ``host`` where ``by_mx`` is set."""

    host: str
    port: int
    by_mx: bool = False
    tls: TlsLevel = "may"
    tls_configured: bool = False
    user: str = ""
    password: str = ""

    @property
    def implicit_tls(self) -> bool:
        """Whether TLS starts with the first octet (RFC 8314 §3.3)."""
        return self.port == 465 and not self.by_mx


def host_destination(host: str, port: int, user: str = "") -> str:
    """The destination that stands for one host: ``[host]:port``, and who signs in there."""
    return f"[{host}]:{port}" + (f" as {user}" if user else "")


class Routes:
    """The configured ways out. A destination is a text that the queue can group by and people can read."""

    def __init__(self, settings: RelaySettings) -> None:
        self._settings = settings
        self._hosts = {host_destination(r.host, r.port, r.user): r for r in reversed(settings.route) if r.host}

    def destination(self, envelope: Envelope, address: Address) -> str:
        """The destination of one recipient."""
        sender = envelope.mail_from.domain if envelope.mail_from else ""
        for route in self._settings.route:
            if _fits(route.sender, sender) and _fits(route.recipient, address.domain):
                return host_destination(route.host, route.port, route.user) if route.host else address.domain
        return address.domain

    def hop(self, destination: str) -> Hop:
        """How to reach a destination. Raises ValueError for a text that is none."""
        if route := self._hosts.get(destination):
            return _smarthost(route)
        if not destination.startswith("["):
            return self._by_domain(destination)
        if match := _HOST.match(destination):
            return Hop(match["host"], int(match["port"]), tls=self._settings.tls)
        return Hop(destination, self._settings.port, by_mx=True)  # an address literal, which nobody relays to

    def _by_domain(self, domain: str) -> Hop:
        own = self.exception(domain)
        port, tls = own.port or self._settings.port, own.tls or self._settings.tls
        return Hop(own.host or domain, port, by_mx=not own.host, tls=tls, tls_configured=own.tls is not None)

    def exception(self, destination: str) -> DestinationSettings:
        """The exceptions configured for a destination, all empty where there are none."""
        return self._settings.destination.get(destination, _NO_EXCEPTION)

    def fallback(self) -> Hop | None:
        """The host of last resort."""
        last = self._settings.fallback
        if not last.host:
            return None
        return Hop(last.host, last.port, False, last.tls, True, last.user, last.password.get_secret_value())

    def sources(self, sender_domain: str) -> tuple[str, ...]:
        """Our own addresses to connect from for this sender's domain; empty: whichever the system picks."""
        source = self._settings.source
        return source.get(sender_domain) or source.get("*", ())


_NO_EXCEPTION = DestinationSettings()


def _smarthost(route: RouteSettings) -> Hop:
    return Hop(route.host, route.port, False, route.tls, True, route.user, route.password.get_secret_value())


def _fits(pattern: str, domain: str) -> bool:
    pattern = pattern.lower()
    return pattern in ("*", domain) or (pattern.startswith(".") and domain.endswith(pattern))
