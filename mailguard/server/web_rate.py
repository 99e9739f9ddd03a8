"""How often one network may ask: a bucket of tokens for each, bounded in number."""

from __future__ import annotations

import ipaddress
import math
import threading
from collections import OrderedDict
from collections.abc import Callable

LEAST = 20  # requests at once: a client that sets itself up asks some ten times
_NETWORKS = 10_000


class RateLimit:
    """``rate`` requests a minute and ``burst`` at once for each IPv4 address or IPv6 /64. Safe for threads."""

    def __init__(self, rate: int, burst: int, now: Callable[[], float]) -> None:
        self._per_second = rate / 60
        self._burst = float(burst)
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def share(cls, rate: int, burst: int, now: Callable[[], float], *, workers: int, least: int = LEAST) -> RateLimit:
        """One worker's part of a limit. Connections spread unevenly, so each allows ``least`` at once, if the whole
        does: the bound of them all is then a little higher than ``burst``."""
        return cls(math.ceil(rate / workers), min(burst, max(math.ceil(burst / workers), least)), now)

    def allow(self, peer_ip: str) -> bool:
        """Takes a token, False if there is none."""
        with self._lock:
            network, tokens = self._look(peer_ip)
            allowed = tokens >= 1
            self._keep(network, tokens - 1 if allowed else tokens)
        return allowed

    def charge(self, peer_ip: str, tokens: float) -> None:
        """Takes tokens that may not be there: for what costs us more than an answer."""
        with self._lock:
            network, left = self._look(peer_ip)
            self._keep(network, max(left - tokens, -self._burst))

    def owes(self, peer_ip: str) -> bool:
        """Whether this network has been charged so much that it is not worth listening to."""
        with self._lock:
            return self._look(peer_ip)[1] < 0

    def _look(self, peer_ip: str) -> tuple[str, float]:
        network = _network(peer_ip)
        tokens, at = self._buckets.get(network, (self._burst, self._now()))
        return network, min(self._burst, tokens + (self._now() - at) * self._per_second)

    def _keep(self, network: str, tokens: float) -> None:
        self._buckets[network] = (tokens, self._now())
        self._buckets.move_to_end(network)
        if len(self._buckets) > _NETWORKS:
            self._buckets.popitem(last=False)


def _network(peer_ip: str) -> str:
    ip = peer_ip.partition("%")[0].removeprefix("::ffff:")
    try:
        return str(ipaddress.ip_network((ip, 64), strict=False)) if ":" in ip else ip
    except ValueError:
        return "?"
