"""IMAP and POP3 on one big mailbox beside Dovecot: ready answers, changes, searches, arrivals, and mail that another
program put there.

BENCH_MESSAGES (10,000) is the size of the mailbox. What idle sessions cost is in ``imap_idle``, growth in
``imap_growth``.
"""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
import officemail
from harness import Row

MESSAGES = int(os.environ.get("BENCH_MESSAGES", "10000"))
APPENDED = 1_000  # by one connection, and by ten, into the mailbox that is there
ASKED = 300
SETTINGS = {"imap.cleartext": "true", "pop3.cleartext": "true"}

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


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two servers: its ports, its two users with their password, and the Maildir of the second one."""

    imap: int
    pop3: int
    users: tuple[str, str]
    password: str
    maildir: Path

    def load(self, user: int, *more: str, mailbox: str = "INBOX", messages: int = MESSAGES) -> dict[str, Any]:
        """Runs the driver."""
        return harness.drive(
            "imap_load", "--port", str(self.imap), "--user", self.users[user], "--password", self.password,
            "--mailbox", mailbox, "--messages", str(messages), *more,
        )  # fmt: skip

    def appended(self, connections: int) -> float:
        """Messages a second into the INBOX."""
        skip = "search,sort,thread,copy,move,expunge"
        done = self.load(0, "--append-conns", str(connections), "--skip", skip, messages=APPENDED)
        return float(done["append_rate"])

    def retrieved(self, window: int) -> float:
        """Messages a second by POP3."""
        line = ("--user", self.users[0], "--password", self.password, "--window", str(window))
        return float(harness.drive("pop3_load", "--port", str(self.pop3), *line)["rate"])


@dataclass(frozen=True, slots=True)
class Figures:
    """All that is measured of one server."""

    load: dict[str, Any]
    append: dict[int, float]
    unseen: float
    pop3: dict[int, float]
    foreign: dict[str, Any]

    @classmethod
    def of(cls, side: Side, prepared: Path) -> Figures:
        """``prepared`` holds the mail that comes from elsewhere."""
        load = side.load(0)  # leaves an INBOX of eight tenths
        append = {connections: side.appended(connections) for connections in (1, 10)}
        unseen = _unseen(side)
        pop3 = {window: side.retrieved(window) for window in (1, 50)}
        move = f"find {prepared} -type f -exec mv -t {side.maildir}/cur {{}} +"
        skip = "search,sort,thread,copy,move,expunge"
        foreign = side.load(1, "--cold-cmd", move, "--skip", skip, messages=1)
        return cls(load, append, unseen, pop3, foreign["s"])


def rows() -> Iterator[Row]:
    """The same driver against both, one after the other."""
    harness.need("dovecot")
    with harness.scratch() as base:
        (base / "theirs").mkdir(mode=0o755)
        with harness.rival(base / "theirs", "dovecot"):
            maildir = base / "theirs/maild/i2"
            side = Side(harness.DOVECOT_IMAP, harness.DOVECOT_POP3, ("i1", "i2"), "secret", maildir)
            theirs = Figures.of(side, _foreign(base / "foreign", "vmail"))
        with harness.ours(base / "ours", users=("u0", "u1"), settings=SETTINGS) as server:
            users = ("u0@a.test", "u1@a.test")
            maildir = server.folder / "data/mail/a.test/u1"
            side = Side(server.offset + 143, server.offset + 110, users, harness.PASSWORD, maildir)
            yield from _compared(Figures.of(side, _foreign(base / "foreign")), theirs)


def _foreign(folder: Path, owner: str = "") -> Path:
    """Messages as another program writes them, which no server has seen; the folder that holds their files."""
    officemail.fill(folder, MESSAGES)
    if owner:
        subprocess.run(["chown", "-R", owner, str(folder)], check=True)
    return folder / "cur"


def _compared(ours: Figures, theirs: Figures) -> Iterator[Row]:
    for step, (what, goal) in STEPS.items():
        yield Row(what, ours.load["s"][step], theirs.load["s"][step], "s", goal, False, "Dovecot")
    yield Row("SEARCH UNSEEN, half of all", ours.unseen, theirs.unseen, "ms", 0.5, False, "Dovecot")
    select, headers = "select_after_cold_cmd", "fetch_headers_after_cold_cmd"
    yield Row("SELECT of mail put there by another program", ours.foreign[select], 1, "s", 1, False, "(limit)")
    yield Row("FETCH of all headers of it", ours.foreign[headers], theirs.foreign[headers], "s", 5, False, "Dovecot")
    for connections in (1, 10):
        what = f"APPEND into it, {connections} connection{'s' * (connections > 1)}"
        yield Row(what, ours.append[connections], theirs.append[connections], "/s", 4, rival="Dovecot")
    yield Row("APPEND from the first message on", ours.load["append_rate"], theirs.load["append_rate"], "/s", 1,
              rival="Dovecot")  # fmt: skip
    for window, goal in ((1, 1 / 1.3), (50, 1 / 2)):
        yield Row(f"POP3 RETR, window {window}", ours.pop3[window], theirs.pop3[window], "/s", goal, rival="Dovecot")


def _unseen(side: Side) -> float:
    """Milliseconds of a SEARCH that finds half of all; the driver's clock is too coarse for it."""
    client = harness.Imap(side.imap, side.users[0], side.password)
    client.ask("SELECT INBOX")
    client.ask(f"STORE 1:{MESSAGES // 2} -FLAGS.SILENT (\\Seen)")
    taken = statistics.median(client.ask("SEARCH UNSEEN") for _ in range(ASKED))
    client.close()
    return taken
