"""Descriptions of messages just delivered, on their way into the index: many at once, after the client's 250."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from mailguard.store import content
from mailguard.store.content import Described
from mailguard.store.index import Index, IndexTornError

_MOST = 1000  # an account; what is beyond it, as what a crash loses, is described by its first reader


class _Arrival(NamedTuple):
    file: Path
    described: Described


class Announcer:
    """Writes what came for an account in one transaction, ``delay`` seconds after the first of it; with no delay, at
    once and in the caller's thread. Never raises: a message is there whether the index knows it or not. Safe for
    threads; one serves all accounts of a process."""

    def __init__(self, log: Any = None, *, delay: float = 0) -> None:
        self._log = log
        self._delay = delay
        self._lock = threading.Lock()
        self._waiting: dict[Index, list[_Arrival]] = {}
        self._running = False

    def add(self, index: Index, file: Path, described: Described) -> None:
        """``file`` lies in a ``new``, under its final name."""
        arrival = _Arrival(file, described)
        if not self._delay:
            self._write(index, [arrival])
            return
        with self._lock:
            waiting = self._waiting.setdefault(index, [])
            if len(waiting) < _MOST:
                waiting.append(arrival)
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._run, name="announcer", daemon=True).start()

    def _run(self) -> None:
        """Ends when nothing came for a while."""
        while True:
            time.sleep(self._delay)
            with self._lock:
                waiting, self._waiting = self._waiting, {}
                if not waiting:
                    self._running = False
                    return
            for index, arrivals in waiting.items():
                self._write(index, arrivals)

    def _write(self, index: Index, arrivals: list[_Arrival]) -> None:
        try:
            with index.write() as db:
                for arrival in arrivals:
                    # Whoever took it out of new meanwhile describes it: nobody would claim what is announced too late.
                    if os.path.exists(arrival.file):
                        content.announce(db, arrival.file.name, arrival.described, time.time())
        except (sqlite3.Error, IndexTornError, OSError) as error:
            if self._log is not None:
                self._log.warning("the index did not take messages, their first reader will", error=str(error))
