"""Settlements of many deliveries in few durable commits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mailguard.delivery.queue import Prepared, Queue
from mailguard.delivery.queue_entry import Settlement
from mailguard.model.event import Event

_MOST_WAITING = 2000
_MOST_AT_ONCE = 500
_PAUSE = 0.02  # seconds: what ends within it shares one fsync


@dataclass(frozen=True, slots=True)
class Settled:
    """The outcome of one attempt on one message: its settlements, the notices they call for, what to tell."""

    settlements: Sequence[Settlement]
    notices: Sequence[Prepared] = ()
    events: Sequence[Event] = ()


class Settler:
    """One thread that commits what deliveries hand in; they go on at once, and wait only if it falls far behind."""

    def __init__(self, queue: Queue, emit: Callable[[Event], None], log: Any) -> None:
        self._queue = queue
        self._emit = emit
        self._log = log
        self._waiting: list[Settled] = []
        self._changed = threading.Condition()
        self._closing = False
        self.failing = False
        self._thread = threading.Thread(target=self._run, name="queue-settler", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def add(self, settled: Settled) -> None:
        """Takes over one outcome."""
        with self._changed:
            while len(self._waiting) >= _MOST_WAITING and not self._closing:
                self._changed.wait(1)
            self._waiting.append(settled)
            self._changed.notify_all()

    def close(self, timeout: float = 8.0) -> None:
        """Commits the rest and ends the thread; what cannot be committed is sent once more after a restart."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _run(self) -> None:
        while batch := self._next():
            self._commit(batch)

    def _next(self) -> list[Settled]:
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            if not self._closing and len(self._waiting) < _MOST_AT_ONCE:
                self._changed.wait(_PAUSE)
            batch, self._waiting = self._waiting[:_MOST_AT_ONCE], self._waiting[_MOST_AT_ONCE:]
            self._changed.notify_all()
            return batch

    def _commit(self, batch: list[Settled]) -> None:
        settlements = [s for settled in batch for s in settled.settlements]
        notices = [n for settled in batch for n in settled.notices]
        while True:
            try:
                self._queue.settle(settlements, notices)
                break
            except (sa.exc.OperationalError, OSError) as error:
                # The disk is full or the database locked. Claims stop meanwhile; the leases hold for an hour.
                self.failing = True
                self._log.error("queue outcomes cannot be recorded; trying again", error=str(error), count=len(batch))
                with self._changed:
                    if self._closing:
                        return
                    self._changed.wait(5)
        self.failing = False
        for settled in batch:
            for event in settled.events:
                self._emit(event)
