"""IMAP and POP3 on one big mailbox beside Dovecot, idle TLS sessions, and how soon they hear of new mail.

BENCH_MESSAGES (10,000) is the size of the mailbox, BENCH_IDLE (1,000) the number of idle connections.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
from harness import Row

MESSAGES = int(os.environ.get("BENCH_MESSAGES", "10000"))
IDLE = int(os.environ.get("BENCH_IDLE", "1000"))
OWNERS = 20  # accounts that the idle connections belong to: more sessions on one mailbox than an office has
THEIRS_IDLE = 500.0  # kB of a TLS connection to Dovecot, where its own script gives it no TLS

# Steps of the driver, what they are, and at most how many times Dovecot's time they may take.
STEPS = {
    "fetch_headers_warm": ("FETCH of all headers", 0.6),
    "fetch_headers_cold": ("the same, nothing asked before", 0.5),
    "fetch_flags": ("FETCH of all flags", 2),
    "select_again": ("SELECT", 1),
    "search_body_again": ("SEARCH BODY", 0.1),
    "search_text": ("SEARCH TEXT", 0.1),
    "search_subject": ("SEARCH SUBJECT", 0.5),
    "search_from": ("SEARCH FROM", 0.5),
    "search_since": ("SEARCH SINCE", 0.5),
    "search_unseen": ("SEARCH UNSEEN", 0.5),
    "sort_date": ("SORT by date", 0.7),
    "sort_subject": ("SORT by subject", 0.7),
    "thread": ("THREAD", 0.7),
    "store_seen_all": ("STORE +FLAGS on all", 1.2),
    "store_silent_all": ("the same, silent", 1.2),
    "expunge_1k": ("EXPUNGE of 1,000", 1.2),
    "move_1k": ("MOVE of 1,000", 1.2),
    "copy_1k": ("COPY of 1,000", 1.2),
    "fetch_200_bodies": ("200 random bodies", 1.5),
    "fetch_all_bodies": ("all bodies", 2),
}


def rows() -> Iterator[Row]:
    """The same driver against both, one after the other."""
    harness.need("dovecot")
    with harness.scratch() as base:
        (base / "theirs").mkdir(mode=0o755)
        with harness.rival(base / "theirs", "dovecot"):
            theirs = _load(harness.DOVECOT_IMAP, "i1", "secret")
            their_pop = _pop3(base, harness.DOVECOT_IMAP, harness.DOVECOT_POP3, "i2", "secret")
        settings = {"imap.cleartext": "true", "pop3.cleartext": "true"}
        with harness.ours(base / "ours", users=("u0", "u1"), settings=settings) as server:
            ours = _load(server.offset + 143, "u0@a.test", harness.PASSWORD)
            our_pop = _pop3(base, server.offset + 143, server.offset + 110, "u1@a.test", harness.PASSWORD)
            yield from _steps(ours, theirs)
            for window, goal in ((1, 1 / 1.3), (50, 1 / 2)):
                yield Row(
                    f"POP3 RETR, window {window}", our_pop[window], their_pop[window], "/s", goal, rival="Dovecot"
                )
        with harness.ours(base / "idle", users=[f"u{n}" for n in range(OWNERS)], settings=settings) as server:
            yield from _idle(server)


def _load(port: int, user: str, password: str) -> dict[str, Any]:
    return harness.drive(
        "imap_load", "--port", str(port), "--user", user, "--password", password, "--messages", str(MESSAGES)
    )


def _steps(ours: dict[str, Any], theirs: dict[str, Any]) -> Iterator[Row]:
    for step, (what, goal) in STEPS.items():
        if step in ours["s"] and step in theirs["s"]:
            yield Row(what, ours["s"][step], theirs["s"][step], "s", goal, more=False, rival="Dovecot")
    yield Row("APPEND", ours["append_rate"], theirs["append_rate"], "/s", 4, rival="Dovecot")


def _pop3(base: Path, imap: int, pop3: int, user: str, password: str) -> dict[int, float]:
    """RETR a second by window, of a mailbox filled by IMAP."""
    harness.drive(
        "imap_load", "--port", str(imap), "--user", user, "--password", password, "--messages",
        str(min(MESSAGES, 2000)), "--mailbox", "INBOX", "--keep", "--skip", "search,sort,thread,copy,move,expunge",
    )  # fmt: skip
    return {
        window: float(
            harness.drive(
                "pop3_load", "--port", str(pop3), "--user", user, "--password", password, "--window", str(window)
            )["rate"]
        )
        for window in (1, 50)
    }


def _idle(server: harness.Ours) -> Iterator[Row]:
    done = harness.drive(
        "imap_idle", "--port", str(server.offset + 993), "--tls", "--user", "u%d@a.test", "--user-count",
        str(OWNERS), "--password", harness.PASSWORD, "--at", str(IDLE),
        "--smtp-port", str(server.offset + 25), "--rcpt", "u0@a.test", "--pids",
        str(server.pid),
    )  # fmt: skip
    (step,) = done["steps"]
    what = f"{IDLE:,} idle TLS sessions, each (PSS)"
    yield Row(what, step["pss_kb_per_conn"], THEIRS_IDLE, "kB", 0.1, more=False, rival="(measured elsewhere)")
    yield Row("250 to EXISTS, p99", step["push_after_reply_ms"]["p99"], 30.0, "ms", 1, more=False, rival="(limit)")
