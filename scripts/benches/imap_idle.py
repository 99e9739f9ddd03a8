"""What an idle TLS session of IMAP costs, and how soon it hears of new mail.

BENCH_IDLE (5,000) is the number of connections.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import harness
from harness import Row

IDLE = int(os.environ.get("BENCH_IDLE", "5000"))
OWNERS = 20  # accounts that the connections belong to: more sessions on one mailbox than an office has
THEIRS = 500.0  # kB of a TLS connection to Dovecot, where its own script gives it no TLS


def rows() -> Iterator[Row]:
    """Proportional memory, and the time from the 250 of a message by SMTP to EXISTS."""
    harness.need()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 3 * IDLE + 1_000), most))
    users = [f"u{number}" for number in range(OWNERS)]
    with harness.scratch() as base, harness.ours(base / "ours", users=users) as server:
        done = harness.drive(
            "imap_idle", "--port", str(server.offset + 993), "--tls", "--user", "u%d@a.test", "--user-count",
            str(OWNERS), "--password", harness.PASSWORD, "--at", str(IDLE), "--smtp-port", str(server.offset + 25),
            "--rcpt", "u0@a.test", "--pids", str(server.pid),
        )  # fmt: skip
    if done["error"]:
        raise SystemExit(done["error"])
    (step,) = done["steps"]
    what = f"{IDLE:,} idle TLS sessions, each (PSS)"
    yield Row(what, step["pss_kb_per_conn"], THEIRS, "kB", 0.1, more=False, rival="(measured elsewhere)")
    yield Row("250 to EXISTS, p99", step["push_after_reply_ms"]["p99"], 30.0, "ms", 1, more=False, rival="(limit)")
