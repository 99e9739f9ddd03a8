"""Messages just delivered, described for the index behind the client's back: after its 250, many at once."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from mailguard.store import content
from mailguard.store.content import Described
from mailguard.store.index import Index, IndexTornError

_MOST = 20_000  # files that wait; what is beyond, as what a crash loses, is described by its first reader
_BATCH = 100
# It rests so many times as long as it worked, after each message: in a rush, deliveries come first.
_IN_A_RUSH, _AT_EASE = 199, 9
_LARGEST = 256 * 1024  # octets; a larger message is left to its first reader


class Announcer:
    """Describes what was delivered, ``delay`` seconds later in a thread of its own; with no delay at once, in the
    caller's. Never raises: a message is there whether the index knows of it or not. Safe for threads; one serves
    all accounts of a process."""

    def __init__(self, log: Any = None, *, delay: float = 0) -> None:
        self._log = log
        self._delay = delay
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Index, str]] = deque(maxlen=_MOST)
        self._running = False
        self._added = 0  # messages in all

    def add(self, index: Index, file: str) -> None:
        """``file`` lies in a ``new``, under its final name."""
        if not self._delay:
            if (found := _read(file)) is not None:
                self._announce(index, [(file, found)])
            return
        with self._lock:
            self._waiting.append((index, file))
            self._added += 1
            if self._running:
                return
            self._running = True
        threading.Thread(target=self._run, name="announcer", daemon=True).start()

    def _run(self) -> None:
        """Ends when nothing came for a while."""
        while batch := self._next_batch():
            before = self._added
            described: dict[Index, list[tuple[str, Described]]] = {}
            for index, file in batch:
                began = time.perf_counter()
                if (found := _read(file)) is not None:
                    described.setdefault(index, []).append((file, found))
                rest = _AT_EASE if self._added == before else _IN_A_RUSH
                time.sleep(rest * (time.perf_counter() - began))
            for index, some in described.items():
                self._announce(index, some)

    def _next_batch(self) -> list[tuple[Index, str]]:
        time.sleep(self._delay)
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            self._running = bool(batch)
        return batch

    def _announce(self, index: Index, described: Sequence[tuple[str, Described]]) -> None:
        try:
            with index.write() as db:
                for file, found in described:
                    # Whoever took it out of new meanwhile describes it: nobody would claim what is announced too late.
                    if os.path.exists(file):
                        content.announce(db, os.path.basename(file), found, time.time())
        except (sqlite3.Error, IndexTornError, OSError) as error:
            if self._log is not None:
                self._log.warning("the index did not take messages, their first reader will", error=str(error))


def _read(file: str) -> Described | None:
    """None where the message is gone from ``new`` already, or too large."""
    with suppress(OSError), open(file, "rb", buffering=0) as source:
        raw = source.read(_LARGEST + 1)
        if len(raw) <= _LARGEST:
            return content.read(content.with_crlf(raw))
    return None
