"""From start to ready, and memory: fresh, and after 2,000 filtered messages over ten sessions."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import harness
from harness import Row

from mailguard.testing.dns import DnsServer

FRESH, LOADED = 66_000, 200_000  # kB of Postfix, Dovecot, rspamd and redis where they are not here to be measured


def rows() -> Iterator[Row]:
    """The sample policy, filtering generated mail, with a DNS that knows nothing."""
    harness.need()
    with harness.scratch() as base:
        theirs_fresh, theirs_loaded, rival = _rivals(base / "rivals")
        with DnsServer() as dns:
            settings = {"dns.nameservers": f'["{dns.nameserver}"]'}
            with harness.ours(base / "ours", policy=None, settings=settings) as server:
                yield Row("start to ready", server.seconds_to_ready, 1.5, "s", 1, more=False, rival="(limit)")
                time.sleep(2)
                yield Row("memory, fresh (PSS)", harness.pss(server.pid), theirs_fresh, "kB", 80 / 66, False, rival)
                _load(server.offset + 25, "u0@a.test")
                yield Row("memory, loaded (PSS)", harness.pss(server.pid), theirs_loaded, "kB", 0.5, False, rival)


def _load(port: int, recipient: str) -> None:
    harness.drive(
        "smtp_load", "--port", str(port), "--rcpt", recipient, "--sessions", "10", "--messages", "2000", "--procs", "1"
    )
    time.sleep(1)


def _rivals(base: Path) -> tuple[int, int, str]:
    try:
        harness.need("postfix", "dovecot", "rspamd", "redis-server", "dnsmasq")
        base.mkdir(mode=0o755)
        with harness.names(base), harness.rival(base, "dovecot", "postfix", "rspamd"):
            time.sleep(2)
            files = ("dovecot/run/master.pid", "postfix/spool/pid/master.pid", "rspamd/pid", "rspamd/redis.pid")
            pids = [int((base / name).read_text().split()[0]) for name in files]
            fresh = sum(harness.pss(pid) for pid in pids)
            _load(harness.POSTFIX_PORT + 1, "u0@b.test")
            return fresh, sum(harness.pss(pid) for pid in pids), "Postfix+Dovecot+rspamd+redis"
    except harness.Absent:
        return FRESH, LOADED, "(measured elsewhere)"
