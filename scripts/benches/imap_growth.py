"""How IMAP grows with the mailbox: each operation on ten times as many messages, compared with ourselves.

BENCH_MESSAGES (10,000) is the size of the smaller mailbox.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import harness
import officemail
from harness import Row

MESSAGES = int(os.environ.get("BENCH_MESSAGES", "10000"))
TIMES = 10
LINEAR = 1.3 * TIMES  # the larger mailbox does not fit a processor's caches as the smaller one does
FLAT = 2  # what does not grow may take so many times as long: these are fractions of a millisecond
APPENDED = 200
CHANGED = "FETCH of what changed since a MODSEQ"

# What is asked several times; the quickest counts.
ASKED = {
    "FETCH of all headers": "FETCH 1:* (ENVELOPE BODYSTRUCTURE RFC822.SIZE INTERNALDATE FLAGS)",
    "FETCH of all flags": "FETCH 1:* (UID FLAGS)",
    "all bodies": "FETCH 1:* (BODY.PEEK[] UID)",
    "SEARCH BODY": 'SEARCH BODY "contract street"',
    "SEARCH TEXT": 'SEARCH TEXT "zzqqxx"',
    "SEARCH SUBJECT": 'SEARCH SUBJECT "invoice"',
    "SEARCH FROM": 'SEARCH FROM "person 13"',
    "SEARCH SINCE": "SEARCH SINCE 1-Jan-2023",
    "SEARCH UNSEEN": "SEARCH UNSEEN",
    "SORT by date": "SORT (REVERSE DATE) UTF-8 ALL",
    "SORT by subject": "SORT (SUBJECT) UTF-8 ALL",
    "THREAD": "THREAD REFERENCES UTF-8 ALL",
}
_ORDERED = ("SORT by date", "SORT by subject", "THREAD")
# What is done once.
DONE = {
    "STORE +FLAGS on all": "STORE 1:* +FLAGS (\\Answered)",
    "the same, silent": "STORE 1:* +FLAGS.SILENT (\\Flagged)",
    "COPY of 1,000": "COPY 1:1000 Other",
    "MOVE of 1,000": "MOVE 1:1000 Other",
    "EXPUNGE of 1,000": "EXPUNGE",
}


def rows() -> Iterator[Row]:
    """The larger mailbox beside the smaller."""
    harness.need(drivers=False)
    sizes = (MESSAGES, MESSAGES * TIMES)
    with harness.scratch() as base:
        users = [f"u{number}" for number in range(2)]

        def fill() -> None:
            for user, size in zip(users, sizes, strict=True):
                officemail.fill(base / "ours/data/mail/a.test" / user, size)

        settings = {"imap.cleartext": "true"}
        with harness.ours(base / "ours", users=users, settings=settings, prepare=fill) as server:
            small, large = (_times(server.offset + 143, f"{user}@a.test") for user in users)
    for what in small:
        flat = what in ("SELECT", CHANGED, "APPEND")
        yield Row(what, large[what], small[what], "ms", FLAT if flat else LINEAR, False, f"at {MESSAGES:,}")


def _times(port: int, user: str) -> dict[str, float]:
    """Milliseconds of each operation."""
    client = harness.Imap(port, user)
    client.ask("CREATE Other")
    client.ask("SELECT INBOX")
    for what in ("FETCH of all headers", "SEARCH BODY"):
        client.ask(ASKED[what])  # reads every message once, keeps its text
    client.close()
    taken = {"SELECT": min(_select(port, user) for _ in range(5))}
    client = harness.Imap(port, user)
    client.ask("SELECT INBOX")
    for what, command in ASKED.items():
        # An order is remembered: the first time counts.
        taken[what] = client.ask(command) if what in _ORDERED else min(client.ask(command) for _ in range(3))
    taken[CHANGED] = _changes(client)
    mail = officemail.letter(1, random.Random(1))
    client.ask("APPEND INBOX", mail)
    taken["APPEND"] = sum(client.ask("APPEND INBOX", mail) for _ in range(APPENDED)) / APPENDED
    for what, command in DONE.items():
        if command == "EXPUNGE":
            client.ask("STORE 1:1000 +FLAGS.SILENT (\\Deleted)")
        taken[what] = client.ask(command)
    client.close()
    return taken


def _select(port: int, user: str) -> float:
    client = harness.Imap(port, user)
    taken = client.ask("SELECT INBOX")
    client.close()
    return taken


def _changes(client: harness.Imap) -> float:
    """Of ten messages among all."""
    modseq = client.highest_modseq("INBOX")
    client.ask("STORE 5:14 +FLAGS.SILENT (\\Draft)")
    # A fraction of a millisecond: the first few times it waits for what the work before left to be done.
    return min(client.ask(f"FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq})") for _ in range(20))
