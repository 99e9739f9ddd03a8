"""Mail in with every filter on, signed 10 KB mail: beside Postfix + rspamd (default modules) + Dovecot, in one run.

Both are taught the same ham and spam before, and are asked afterwards whether all their checks ran (``lessons``).
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
import lessons
from harness import SHARED, USERS, Row, all_checks, median

ROUNDS, MESSAGES = 3, 800
RIVAL, RIVAL_PORT, SCANNERS = "Postfix + rspamd + Dovecot", 2626, 2
LISTS = ('{ zone = "dbl.example", ask = "mail_from" }', '{ zone = "other.example", ask = "mail_from" }')
SETTINGS = {"dns.nameservers": f'["{lessons.NAMESERVER}"]', "smtp.xclient_from": '["127.0.0.0/8"]'}
_RIVALS = ("postfix/spool/pid/master.pid", "dovecot/run/master.pid", "rspamd/pid", "rspamd/redis.pid")


def rows() -> Iterator[Row]:
    """Rates, CPU, the time to the 250 of one session, and memory after the load; medians of alternating rounds."""
    harness.need("postfix", "dovecot", "rspamd", "rspamc", "redis-server", "dnsmasq")
    with harness.scratch() as base:
        corpus, folder = base / "corpus", base / "ours"
        line = [sys.executable, "make_corpus.py", str(corpus), "--count", "100", "--sizes", "10000"]
        subprocess.run(line, cwd=SHARED / "bench", check=True)
        lessons.write(base, corpus)

        def teach() -> None:
            lessons.teach_ours(base, folder, USERS)

        policy = all_checks(*LISTS)
        with (
            harness.names(base),
            harness.rival(base, "postfix", "dovecot", "rspamd"),
            harness.ours(folder, users=USERS, policy=policy, settings=SETTINGS, prepare=teach) as server,
        ):
            _awake()
            lessons.teach_rspamd(base)
            for domain, port in (("b.test", RIVAL_PORT), ("a.test", server.offset + 25)):
                _send(base, corpus, domain, port, 10)  # maps are compiled, models and connections opened with the first
            lessons.wait_for_patterns(base / "rspamd/log/rspamd.log", SCANNERS)
            yield from _load(base, corpus, server)
            theirs = sum(harness.pss(pid) for pid in _rivals(base)) / 1024
            yield Row("memory after the load (PSS)", harness.pss(server.pid) / 1024, theirs, "MB", 0.5, False, RIVAL)


def _rivals(base: Path) -> list[int]:
    return [int((base / name).read_text()) for name in _RIVALS]


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
            found["ours"].append(_ours(base, corpus, server, sessions))
            found["theirs"].append(_theirs(base, corpus, sessions))
        what = f"signed 10 KB, all filters, {what}"
        for figure, unit, goal, more in _FIGURES[sessions > 1]:
            ours, theirs = (median(found[name], figure) for name in ("ours", "theirs"))
            yield Row(f"{what}{_TOLD[figure]}", ours, theirs, unit, goal, more, RIVAL)


_TOLD = {"rate": "", "cpu": ": CPU of a message, all processes", "p50": ": time to the 250"}
_FIGURES: dict[bool, tuple[tuple[str, str, float, bool], ...]] = {
    True: (("rate", "/s", 4, True), ("cpu", "ms", 0.25, False)),
    False: (("p50", "ms", 1, False),),
}
"""For several sessions, and for one: figure, unit, goal, whether more is better."""


def _ours(base: Path, corpus: Path, server: harness.Ours, sessions: int) -> dict[str, float]:
    sent = _send(base, corpus, "a.test", server.offset + 25, sessions, server.pid)
    lessons.prove_ours(server.folder, messages=int(sent["messages"]))
    return sent


def _theirs(base: Path, corpus: Path, sessions: int) -> dict[str, float]:
    before = lessons.questions()
    sent = _send(base, corpus, "b.test", RIVAL_PORT, sessions, *_rivals(base))
    asked, log = lessons.questions() - before, base / "rspamd/log/rspamd.log"
    lessons.prove_rspamd(log, messages=int(sent["messages"]), asked=asked)
    return sent


def _send(base: Path, corpus: Path, domain: str, port: int, sessions: int, *pids: int) -> dict[str, float]:
    recipients = [word for user in USERS for word in ("--rcpt", f"{user}@{domain}")]
    where = base / ("ours/data/mail/a.test/*" if domain == "a.test" else "maild/b-u*")
    count = MESSAGES if sessions > 1 else MESSAGES // 8
    result = harness.drive(
        "smtp_load", "--port", str(port), *recipients, "--corpus", str(corpus), "--xclient", "--sessions",
        str(sessions), "--messages", str(count), "--maildirs", str(where), "--pids", ",".join(map(str, pids)),
    )  # fmt: skip
    if result.get("errors"):
        raise SystemExit(f"{domain}: {result['errors']} errors: {result.get('error_samples')}")
    cpu = 1000 * result.get("server_cpu_s", 0.0) / count
    rate = result.get("delivered_rate") or result["rate"]
    return {"rate": rate, "p50": result["data_ms"]["p50"], "cpu": cpu, "messages": count}
