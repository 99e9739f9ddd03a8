"""Mail in with every filter on, signed 10 KB mail: beside Postfix + rspamd (default modules) + Dovecot, in one run.

rspamd runs hundreds of rules more than we do: say so wherever the ratio is quoted.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import harness
from harness import SHARED, USERS, Row, all_checks, median

ROUNDS, MESSAGES = 3, 400
RIVAL, RIVAL_PORT = "Postfix + rspamd + Dovecot", 2626
LISTS = ('{ zone = "dbl.example", ask = "mail_from" }', '{ zone = "other.example", ask = "mail_from" }')
SETTINGS = {"dns.nameservers": '["127.5.3.1"]', "smtp.xclient_from": '["127.0.0.0/8"]'}


def rows() -> Iterator[Row]:
    """Rates, the time to the 250 of one session alone, and memory after the load; medians of alternating rounds."""
    harness.need("postfix", "dovecot", "rspamd", "redis-server", "dnsmasq")
    with harness.scratch() as base:
        corpus = base / "corpus"
        line = [sys.executable, "make_corpus.py", str(corpus), "--count", "100", "--sizes", "10000"]
        subprocess.run(line, cwd=SHARED / "bench", check=True)
        with (
            harness.names(base),
            harness.rival(base, "postfix", "dovecot", "rspamd"),
            harness.ours(base / "ours", users=USERS, policy=all_checks(*LISTS), settings=SETTINGS) as server,
        ):
            _awake()
            _send(base, corpus, "b.test", RIVAL_PORT, 10)  # its maps are compiled with the first messages
            yield from _load(base, corpus, server)
            pids = ("postfix/spool/pid/master.pid", "dovecot/run/master.pid", "rspamd/pid", "rspamd/redis.pid")
            theirs = sum(harness.pss(int((base / name).read_text())) for name in pids) / 1024
            yield Row("memory after the load (PSS)", harness.pss(server.pid) / 1024, theirs, "MB", 0.5, False, RIVAL)


def _awake() -> None:
    """Waits until rspamd answers: it compiles its patterns first."""
    until = time.monotonic() + 180
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen("http://127.0.0.1:11333/ping", timeout=5) as answer:
            if answer.status == 200:
                return
        if time.monotonic() > until:
            raise SystemExit("rspamd does not answer")
        time.sleep(0.5)


def _load(base: Path, corpus: Path, server: harness.Ours) -> Iterator[Row]:
    for sessions, what in ((10, "10 sessions"), (1, "one session")):
        found: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
        for _ in range(ROUNDS):
            found["ours"].append(_send(base, corpus, "a.test", server.offset + 25, sessions))
            found["theirs"].append(_send(base, corpus, "b.test", RIVAL_PORT, sessions))
        if sessions > 1:
            ours, theirs = (median(found[name], "rate") for name in ("ours", "theirs"))
            yield Row(f"signed 10 KB, all filters, {what}", ours, theirs, "/s", 4, rival=RIVAL)
        else:
            ours, theirs = (median(found[name], "p50") for name in ("ours", "theirs"))
            yield Row(f"signed 10 KB, all filters, {what}: time to the 250", ours, theirs, "ms", 1, False, RIVAL)


def _send(base: Path, corpus: Path, domain: str, port: int, sessions: int) -> dict[str, float]:
    recipients = [word for user in USERS for word in ("--rcpt", f"{user}@{domain}")]
    where = base / ("ours/data/mail/a.test/*" if domain == "a.test" else "maild/b-u*")
    count = MESSAGES if sessions > 1 else MESSAGES // 4
    result = harness.drive(
        "smtp_load", "--port", str(port), *recipients, "--corpus", str(corpus), "--xclient", "--sessions",
        str(sessions), "--messages", str(count), "--maildirs", str(where),
    )  # fmt: skip
    if result.get("errors"):
        raise SystemExit(f"{domain}: {result['errors']} errors: {result.get('error_samples')}")
    return {"rate": result.get("delivered_rate") or result["rate"], "p50": result["data_ms"]["p50"]}
