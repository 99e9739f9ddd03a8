"""The queue runner: claims what is due, destination by destination, and settles what comes of it."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from mailguard.delivery.attempt import Attempt
from mailguard.delivery.pacing import Pace
from mailguard.delivery.queue import Queue
from mailguard.delivery.queue_admin import QueueAdmin
from mailguard.delivery.queue_body import ORPHANS
from mailguard.delivery.queue_entry import Work
from mailguard.delivery.relay_settings import DestinationSettings, QueueSettings
from mailguard.delivery.settler import Settler
from mailguard.observe.log import about
from mailguard.state.queue import URGENT

_SCAN_AT_MOST_EVERY = 0.05  # seconds
_SCAN_AT_LEAST_EVERY = 5.0  # for what another machine put in
_PACES = 10_000
_SWEEP_EVERY = 3600.0
_SHARE = 200  # messages a worker does for one destination while others wait


class Runner:
    """Runs in one process of each machine; several machines on one database take turns by leases. ``beat`` is called
    with every look at the queue, every five seconds at least, while its outcomes can be written down."""

    def __init__(
        self,
        queue: Queue,
        settings: QueueSettings,
        attempt: Attempt,
        settler: Settler,
        *,
        exception: Callable[[str], DestinationSettings],
        log: Any,
        now: Callable[[], float] = time.time,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._queue = queue
        self._settings = settings
        self._attempt = attempt
        self._settler = settler
        self._exception = exception
        self._log = log
        self._now = now
        self._beat = beat
        self._paces: OrderedDict[str, Pace] = OrderedDict()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._stop = threading.Event()
        self._wake_read = self._wake_write = -1

    def run(self, stop: threading.Event) -> None:
        """Works until ``stop`` is set, then ends within about ten seconds; what is under way is leased again later."""
        bell = self._queue.bodies.open_bell()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        watcher = threading.Thread(target=self._watch, args=(stop,), name="queue-stop", daemon=True)
        try:
            self._start()
            watcher.start()
            self._loop(bell)
        finally:
            self._stop.set()
            self._finish()
            for fd in (bell, self._wake_read, self._wake_write):
                os.close(fd)

    def _start(self) -> None:
        self._settler.start()
        taken = self._queue.take_back()
        if taken:
            self._log.info("took back what an earlier runner had claimed", recipients=taken)
        moved = QueueAdmin(self._queue).refresh_destinations(self._attempt.relay.routes.destination)
        if moved:
            self._log.info("what waits follows the routes as they are configured now", recipients=moved)
        threading.Thread(target=self._sweep, name="queue-sweep", daemon=True).start()

    def _watch(self, stop: threading.Event) -> None:
        while not stop.wait(0.5):
            if self._stop.is_set():
                return
        self._stop.set()
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"!")

    def _sweep(self) -> None:
        while not self._stop.wait(1):
            try:
                aside = self._queue.sweep(older_than=self._now() - _SWEEP_EVERY)
                if aside:
                    where = str(self._queue.bodies.folder / ORPHANS)
                    self._log.warning("messages without an entry in the queue were set aside", count=aside, where=where)
            except (sa.exc.SQLAlchemyError, OSError) as error:
                self._log.warning("the queue folder could not be swept", error=str(error))
            if self._stop.wait(_SWEEP_EVERY):
                return

    def _finish(self) -> None:
        until = time.monotonic() + 7
        for thread in list(self._threads):
            thread.join(max(0.0, until - time.monotonic()))
        self._settler.close()
        self._attempt.relay.close_idle(all_of_them=True)

    # -- the scheduler ----------------------------------------------------------------------------------------

    def _loop(self, bell: int) -> None:
        poll = select.poll()
        poll.register(bell, select.POLLIN)
        poll.register(self._wake_read, select.POLLIN)
        while not self._stop.is_set():
            pause = _SCAN_AT_LEAST_EVERY
            try:
                if not self._settler.failing:
                    pause = self._dispatch()
                    self._beat()
            except sa.exc.SQLAlchemyError as error:
                self._log.error("the queue cannot be read; trying again", error=str(error))
                pause = 1.0
            self._attempt.relay.close_idle()
            for fd, _ in poll.poll(pause * 1000):
                os.read(fd, 65536)
            self._stop.wait(_SCAN_AT_MOST_EVERY)

    def _dispatch(self) -> float:
        """Starts workers for what is due; returns the seconds until the next look is worth it."""
        now = self._now()
        soonest = now + _SCAN_AT_LEAST_EVERY
        due: list[str] = []
        for destination, first in self._queue.due(now):
            if first <= now:
                due.append(destination)
                if first <= URGENT:
                    with self._lock:
                        self._pace(destination).unblock()
            else:
                soonest = min(soonest, first)
        # One worker each, round after round, so that a large backlog cannot take all threads first.
        # As many rounds as one destination may have workers: a worker that found nothing must not be followed by
        # another for ever, and none is started once the end has begun; those that end ring for the next look.
        for _ in range(self._settings.concurrency):
            started = False
            for destination in due:
                if self._stop.is_set():
                    return 0.0
                if len(self._threads) >= self._settings.threads:
                    return max(0.0, soonest - now)
                wait = self._start_worker(destination, now)
                started |= wait == 0
                if wait:
                    soonest = min(soonest, now + wait)
            if not started:
                break
        return max(0.0, soonest - now)

    def _start_worker(self, destination: str, now: float) -> float:
        """0 if a worker was started, else the seconds until it may be worth another try."""
        with self._lock:
            pace = self._pace(destination)
            if not pace.may_start(now):
                return max(pace.next_token(now) - now, 0.0) or _SCAN_AT_LEAST_EVERY
            pace.active += 1
            thread = threading.Thread(target=self._work, args=(destination, pace), name="queue-worker", daemon=True)
            self._threads.add(thread)
        thread.start()
        return 0.0

    def _pace(self, destination: str) -> Pace:
        pace = self._paces.get(destination)
        if pace is None:
            own, all_of_them = self._exception(destination), self._settings
            most = own.concurrency or all_of_them.concurrency
            pace = Pace(most, min(all_of_them.first_concurrency, most), own.rate or all_of_them.rate)
            self._paces[destination] = pace
            for name in [n for n, p in self._paces.items() if not p.active and n != destination][
                : len(self._paces) - _PACES
            ]:
                del self._paces[name]
        self._paces.move_to_end(destination)
        return pace

    # -- a worker ---------------------------------------------------------------------------------------------

    def _work(self, destination: str, pace: Pace) -> None:
        try:
            done = 0
            while not self._stop.is_set() and done < _SHARE and not self._settler.failing:
                count = self._round(destination, pace)
                done += count
                if not count:
                    break
        except Exception as error:  # a worker's fault must not end the runner; the lease gives its work back
            self._log.error("a delivery worker failed", destination=destination, error=repr(error), exc_info=True)
        finally:
            about("")
            with self._lock:
                pace.active -= 1
                self._threads.discard(threading.current_thread())
            self._wake()

    def _round(self, destination: str, pace: Pace) -> int:
        with self._lock:
            allowed = min(pace.allowance(self._now()), self._settings.batch)
        if allowed < 1:
            return 0
        works = self._queue.claim(destination, limit=int(allowed), lease_seconds=self._settings.lease)
        leased_until = self._now() + self._settings.lease
        for at, work in enumerate(works):
            if self._stop.is_set() or not self._still_ours(work, leased_until):
                rest = works[at:] if self._stop.is_set() else [work]
                self._queue.unclaim(r.row for w in rest for r in w.recipients)
                if self._stop.is_set():
                    break
                continue
            self._one(work, pace)
        return len(works)

    def _still_ours(self, work: Work, leased_until: float) -> bool:
        now = self._now()
        if leased_until - now > self._settings.lease / 2:
            return True
        return self._queue.renew([r.row for r in work.recipients], now + self._settings.lease)

    def _one(self, work: Work, pace: Pace) -> None:
        now = self._now()
        about(work.message.envelope.id)
        with self._lock:
            pace.took()
            blocked = pace.blocked(now)
        sent = self._attempt.make(work, blocked)
        if blocked is None and not sent.local:
            with self._lock:
                if sent.unreached or sent.lost:
                    pace.failed(self._now(), sent.replies[0], unreached=sent.unreached)
                elif any(r.ok for r in sent.replies):
                    pace.succeeded()
                elif any(r.temporary for r in sent.replies):
                    pace.slowed()
