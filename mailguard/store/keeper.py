"""Housekeeping of everybody's mail: what came is described and kept for searching, what is old goes, who is nearly full
is told."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from mailguard.store.account import AccountStore
from mailguard.store.index import IndexTornError
from mailguard.store.quota import Quota
from mailguard.store.snapshot import NoSuchMailboxError

ROUND = 60.0  # seconds from the end of one round to the next
_TIDY = 3_600.0
_AT_ONCE = 100  # messages
# It rests so many times as long as it worked: it takes a fifth of a CPU at most, a twentieth where others want it, too.
_AT_EASE, _IN_A_RUSH = 4.0, 19.0

Warn = Callable[[str, AccountStore, Quota], None]


class Keeper:
    """Runs in one elected process. ``accounts`` gives the key and the store of each account; ``warn`` is told of
    every account that has a limit."""

    def __init__(self, accounts: Callable[[], Iterable[tuple[str, AccountStore]]], warn: Warn, log: Any) -> None:
        self._accounts = accounts
        self._warn = warn
        self._log = log
        self._tidied = 0.0

    def run(self, stop: threading.Event) -> None:
        """Goes round until it is stopped."""
        while not stop.wait(ROUND):
            self.round(stop)

    def round(self, stop: threading.Event) -> None:
        """Looks after every account once."""
        tidy = time.monotonic() - self._tidied > _TIDY
        if tidy:
            self._tidied = time.monotonic()
        for key, account in self._accounts():
            if stop.is_set():
                return
            try:
                self._look_after(key, account, stop, tidy)
            except (OSError, sqlite3.Error, IndexTornError) as error:
                self._log.error("housekeeping failed", account=key, error=str(error))

    def _look_after(self, key: str, account: AccountStore, stop: threading.Event, tidy: bool) -> None:
        for name in account.names():
            try:
                mailbox = account.mailbox(name)
                while not stop.is_set() and self._timed(mailbox.describe_some, stop):
                    pass
                while not stop.is_set() and account.keeps_text and self._timed(mailbox.keep_some, stop):
                    pass
            except NoSuchMailboxError:
                continue
        if tidy:
            account.tidy()
        if account.limits.storage or account.limits.messages:
            self._warn(key, account, account.quota())

    @staticmethod
    def _timed(work: Callable[[int], int], stop: threading.Event) -> int:
        began, own = time.monotonic(), time.thread_time()
        done = work(_AT_ONCE)
        if done:
            took = time.monotonic() - began
            waited = took > 2 * (time.thread_time() - own)  # for the CPU, or for Python's lock
            stop.wait((_IN_A_RUSH if waited else _AT_EASE) * took)
        return done
