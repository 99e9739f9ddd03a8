"""What is remembered of messages once they are stored, written down together a moment later.

A transaction for each message would cost as much as reading it does. What a crash takes away is a second's worth of
arrivals nobody has spoken of, and of faded counts; no lesson goes through here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from .history import History, Past
from .journal import Arrival, Journal

DELAY = 1.0
MOST = 500
"""Seconds, and arrivals, after which what waits is written."""


class Notebook:
    """Gathers arrivals and counts of one process. Safe for threads; its timer runs only while something waits.
    ``failed`` is told what kept the timer from writing."""

    def __init__(
        self,
        journal: Journal,
        history: History,
        *,
        failed: Callable[[Exception], None] = lambda _: None,
        delay: float = DELAY,
    ) -> None:
        self._journal = journal
        self._history = history
        self._failed = failed
        self._delay = delay
        self._lock = threading.Lock()
        self._arrivals: list[Arrival] = []
        self._counts: dict[str, Past] = {}
        self._timer: threading.Timer | None = None

    def note(self, arrivals: Iterable[Arrival], counts: Mapping[str, Past], now: float) -> None:
        """Takes down arrivals, and what is to be added to the counts of senders."""
        with self._lock:
            self._arrivals += arrivals
            for key, past in counts.items():
                self._counts[key] = replace(self._counts.get(key, Past()) + past, at=now)
            if self._timer is None:
                self._timer = threading.Timer(self._delay, self._later)
                self._timer.daemon = True
                self._timer.start()
            full = len(self._arrivals) >= MOST
        if full:
            self.write()

    def write(self) -> None:
        """Writes all that waits, now. What cannot be written (a full disk) is let go."""
        with self._lock:
            arrivals, self._arrivals = self._arrivals, []
            counts, self._counts = self._counts, {}
            timer, self._timer = self._timer, None
            if timer is not None:
                timer.cancel()
            if arrivals:
                self._journal.arrived(arrivals)
            if counts:
                self._history.add_all(counts, max(past.at for past in counts.values()))

    def _later(self) -> None:
        try:
            self.write()
        except Exception as error:
            self._failed(error)
