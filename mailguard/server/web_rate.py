"""How often one network may ask: a bucket of tokens for each, bounded in number."""

from __future__ import annotations

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Callable

_NETWORKS = 10_000


class RateLimit:
    """``rate`` requests a minute and ``burst`` at once for each IPv4 address or IPv6 /64. Safe for threads."""

    def __init__(self, rate: int, burst: int, now: Callable[[], float]) -> None:
        self._per_second = rate / 60
        self._burst = float(burst)
        self._now = now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def allow(self, peer_ip: str) -> bool:
        """Takes a token, False if there is none."""
        network = _network(peer_ip)
        now = self._now()
        with self._lock:
            tokens, at = self._buckets.get(network, (self._burst, now))
            tokens = min(self._burst, tokens + (now - at) * self._per_second)
            allowed = tokens >= 1
            self._buckets[network] = (tokens - 1 if allowed else tokens, now)
            self._buckets.move_to_end(network)
            if len(self._buckets) > _NETWORKS:
                self._buckets.popitem(last=False)
        return allowed


def _network(peer_ip: str) -> str:
    ip = peer_ip.partition("%")[0].removeprefix("::ffff:")
    return str(ipaddress.ip_network((ip, 64), strict=False)) if ":" in ip else ip
