"""Connections that wait without a thread: one selector for a worker's idle sessions, whatever wakes them."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import queue
import selectors
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from mailguard.net.stream import Stream

_IDLE_THREADS = 4  # kept for the next wake-up


class Reason(Enum):
    """Why a parked connection got a thread again."""

    READABLE = "readable"  # the client sent something, or hung up
    RUNG = "rung"  # its bell
    TIMEOUT = "timeout"
    DRAIN = "drain"  # the server is stopping


Wake = Callable[[Reason], None]


@dataclass(slots=True)
class _Parked:
    stream: Stream
    wake: Wake
    until: float
    ended: Callable[[], None]
    done: bool = field(default=False)


class Parking:
    """Takes connections off their threads. Safe for threads.

    ``park`` hands a stream over; ``wake`` is called with a Reason on a thread of the parking's own pool, once,
    and has the stream to itself again. It may park it anew, or close it.
    """

    def __init__(self, log: Any = None) -> None:
        self._log = log
        self._selector = selectors.DefaultSelector()
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._read, selectors.EVENT_READ)
        self._parked: dict[int, _Parked] = {}
        self._deadlines: list[tuple[float, int, _Parked]] = []
        self._counter = itertools.count()
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[tuple[Wake, Reason] | None] = queue.SimpleQueue()
        self._idle = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="parking", daemon=True)

    def start(self) -> None:
        """Starts the thread that waits; after the fork."""
        self._thread.start()

    def __len__(self) -> int:
        return len(self._parked)

    def park(
        self, stream: Stream, wake: Wake, timeout: float, *, ended: Callable[[], None] = lambda: None
    ) -> Callable[[], None]:
        """Waits for the client without a thread, ``timeout`` seconds at the most; returns the bell to ring.

        ``ended`` is called before ``wake``, whatever the reason. If octets are waiting already, ``wake`` is
        called at once.
        """
        parked = _Parked(stream, wake, time.monotonic() + timeout, ended)
        fd = stream.fileno()
        if stream.pending() or self._stopped:
            self._dispatch(parked, Reason.DRAIN if self._stopped else Reason.READABLE)
            return lambda: None
        with self._lock:
            self._parked[fd] = parked
            heapq.heappush(self._deadlines, (parked.until, next(self._counter), parked))
            soonest = self._deadlines[0][2] is parked
            self._selector.register(fd, selectors.EVENT_READ)
        if soonest:
            self._nudge()
        return lambda: self._end(fd, parked, Reason.RUNG)

    def stop(self) -> None:
        """Wakes everyone with Reason.DRAIN and ends."""
        self._stopped = True
        for fd, parked in list(self._parked.items()):
            self._end(fd, parked, Reason.DRAIN)
        self._nudge()

    def _end(self, fd: int, parked: _Parked, reason: Reason) -> None:
        with self._lock:
            if self._parked.get(fd) is not parked:
                return
            del self._parked[fd]
            with contextlib.suppress(KeyError, ValueError, OSError):
                self._selector.unregister(fd)
        self._dispatch(parked, reason)

    def _dispatch(self, parked: _Parked, reason: Reason) -> None:
        parked.done = True
        parked.ended()
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
            else:
                threading.Thread(target=self._work, name="woken", daemon=True).start()
        self._jobs.put((parked.wake, reason))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            wake, reason = job
            try:
                wake(reason)
            except OSError:
                pass  # the client has gone
            except Exception as error:
                if self._log is not None:
                    self._log.error("a parked connection failed", exc_info=error)
            with self._lock:
                if self._idle >= _IDLE_THREADS:
                    return
                self._idle += 1

    def _run(self) -> None:
        while not self._stopped:
            for key, _ in self._selector.select(self._pause()):
                if key.fd == self._read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._read, 4096)
                elif (parked := self._parked.get(key.fd)) is not None:
                    self._end(key.fd, parked, Reason.READABLE)
            self._expire()

    def _pause(self) -> float | None:
        with self._lock:
            while self._deadlines and self._deadlines[0][2].done:
                heapq.heappop(self._deadlines)
            return max(0.0, self._deadlines[0][0] - time.monotonic()) if self._deadlines else None

    def _expire(self) -> None:
        now = time.monotonic()
        expired = []
        with self._lock:
            while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].done):
                expired.append(heapq.heappop(self._deadlines)[2])
        for parked in expired:
            if not parked.done:
                self._end(parked.stream.fileno(), parked, Reason.TIMEOUT)

    def _nudge(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"!")
