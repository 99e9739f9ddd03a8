"""Set-up requests to one worker, from Debian's ``wrk``: how many it answers, and how long the slowest wait."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import harness
from harness import Row

CLIENTS = 8
SECONDS = 5
ROUNDS = 3
PATH = "/mail/config-v1.1.xml?emailaddress=u0@a.test"
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def rows() -> Iterator[Row]:
    """HTTP and HTTPS, the best of a few rounds: what else the machine does only makes them slower."""
    harness.need("wrk", drivers=False)
    settings = {"workers": "1", "web.rate": "10000000", "web.burst": "10000000", "dns.nameservers": '["127.0.0.1:9"]'}
    with harness.scratch() as base, harness.ours(base / "web", settings=settings) as server:
        for scheme, port in (("http", 80), ("https", 443)):
            url = f"{scheme}://127.0.0.1:{server.offset + port}{PATH}"
            rate, slowest = max(_asked(url) for _ in range(ROUNDS))
            what = f"set-up answers over {scheme.upper()}, {CLIENTS} clients, five to a connection"
            yield Row(what, rate, 1000, "/s", 1, rival="bound")
            yield Row(f"{what}: 99th percentile", slowest, 20, "ms", 1, False, "bound")


def _asked(url: str) -> tuple[float, float]:
    """Answers a second, and the milliseconds that one in a hundred exceeds."""
    line = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS}s", "--latency", "-H", "Host: autoconfig.a.test", url]
    told = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    rate, slowest = re.search(r"Requests/sec:\s+(\S+)", told), re.search(r"99%\s+([\d.]+)(us|ms|s)", told)
    if rate is None or slowest is None or "Non-2xx" in told:
        raise SystemExit(told)
    return float(rate[1]), float(slowest[1]) * _UNITS[slowest[2]]
