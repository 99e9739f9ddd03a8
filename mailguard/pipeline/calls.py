"""Calls of plugins under a deadline: side by side where they wait for the network, their faults counted."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from mailguard.pipeline.finding import Finding
from mailguard.pipeline.registry import CHECKS, ERROR

MAX_FACTS = 16_384  # characters of JSON that one finding may carry
MAX_STUCK = 8  # calls of one plugin that may hang at the same time before it is left out


class DeadlineError(Exception):
    """A plugin took longer than it may."""


class Pool:
    """Up to ``size`` daemon threads that run calls; started when first needed, so it may be built before a fork."""

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = 0
        self._lock = threading.Lock()

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        """Runs ``call`` on one of the threads."""
        future: Future[Any] = Future()
        with self._lock:
            grow = self._idle <= self._jobs.qsize() and self._threads < self._size
            self._threads += grow
        self._jobs.put((future, call))
        if grow:
            threading.Thread(target=self._work, name="plugin-call", daemon=True).start()
        return future

    def close(self) -> None:
        """Lets idle threads end; those that hang are left behind."""
        with self._lock:
            for _ in range(self._threads):
                self._jobs.put(None)

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            job = self._jobs.get()
            with self._lock:
                self._idle -= 1
            if job is None:
                return
            future, call = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:  # whatever a plugin raises must not end the thread
                future.set_exception(error)
            del future, call, job


@dataclass(slots=True)
class Health:
    """Faults in a row of one plugin, until when it is switched off, and how many of its calls hang."""

    faults: int = 0
    off_until: float = 0.0
    stuck: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True, slots=True)
class Job:
    """One call to make; ``words`` are those it may find."""

    plugin: str
    hook: str
    call: Callable[[], Any]
    deadline: float
    words: Mapping[str, Any]
    quick: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a call: a finding or None, and the milliseconds it took; ``fault`` is the exception, if any."""

    plugin: str
    finding: Finding | None
    ms: float
    fault: BaseException | None = None


class Calls:
    """Makes the calls of one worker. ``on_fault(plugin, error, switched_off)`` is told of each fault."""

    def __init__(
        self,
        *,
        faults: int = 10,
        off_for: float = 600.0,
        threads: int = 64,
        on_fault: Callable[[str, BaseException, bool], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._faults = faults
        self._off_for = off_for
        self._pool = Pool(threads)
        self._on_fault = on_fault
        self._clock = clock
        self._health: dict[str, Health] = {}

    def is_off(self, plugin: str) -> bool:
        """Whether the plugin is switched off now, or so many of its calls hang that no more are made."""
        health = self._health.get(plugin)
        return health is not None and (health.off_until > self._clock() or health.stuck >= MAX_STUCK)

    def together(self, jobs: Sequence[Job]) -> list[Result]:
        """Makes these calls side by side, each under its deadline; results in the order of ``jobs``."""
        if not jobs:
            return []
        started = time.perf_counter()
        timings: list[float] = [0.0] * len(jobs)
        futures = [self._submit(job, _timed(job, timings, n)) for n, job in enumerate(jobs)]
        return [self._gather(job, future, started, timings, n)
                for n, (job, future) in enumerate(zip(jobs, futures, strict=True))]  # fmt: skip

    def _submit(self, job: Job, call: Callable[[], Any]) -> Future[Any] | Callable[[], Any]:
        return call if job.quick else self._pool.submit(call)

    def close(self) -> None:
        """Lets the threads end."""
        self._pool.close()

    def _gather(
        self, job: Job, future: Future[Any] | Callable[[], Any], started: float, timings: list[float], n: int
    ) -> Result:
        try:
            finding = check_finding(job, self._wait(job, future, started, timings, n))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise
            self._count_fault(job.plugin, error)
            text = f"{type(error).__name__}: {error}"[:500]
            return Result(job.plugin, Finding(ERROR, "the check failed", text), timings[n], error)
        if job.plugin in self._health:
            self._health[job.plugin].faults = 0
        return Result(job.plugin, finding, timings[n])

    def _wait(
        self, job: Job, future: Future[Any] | Callable[[], Any], started: float, timings: list[float], n: int
    ) -> Any:
        if not isinstance(future, Future):
            value = future()
            if timings[n] > job.deadline * 1000:
                raise DeadlineError(f"{timings[n] / 1000:.1f} s, though it calls itself quick")
            return value
        try:
            return future.result(max(started + job.deadline - time.perf_counter(), 0.001))
        except TimeoutError:
            if future.done():
                raise
            timings[n] = job.deadline * 1000
            self._abandon(job.plugin, future)
            raise DeadlineError(f"no answer within {job.deadline:g} s") from None

    def _abandon(self, plugin: str, future: Future[Any]) -> None:
        if future.cancel():
            return
        health = self._health_of(plugin)
        with health.lock:
            health.stuck += 1

        def back(_: object) -> None:
            with health.lock:
                health.stuck -= 1

        future.add_done_callback(back)

    def _count_fault(self, plugin: str, error: BaseException) -> None:
        health = self._health_of(plugin)
        with health.lock:
            health.faults += 1
            off = health.faults >= self._faults
            if off:
                health.off_until = self._clock() + self._off_for
                health.faults = self._faults - 1  # when it is tried again, one fault is enough
        self._on_fault(plugin, error, off)

    def _health_of(self, plugin: str) -> Health:
        return self._health.setdefault(plugin, Health())


def _timed(job: Job, timings: list[float], n: int) -> Callable[[], Any]:
    def call() -> Any:
        begun = time.perf_counter()
        try:
            return job.call()
        finally:
            timings[n] = (time.perf_counter() - begun) * 1000

    return call


def check_finding(job: Job, value: Any) -> Finding | None:
    """The value as a finding; raises TypeError or ValueError for what no check may return."""
    if value is None or job.hook not in CHECKS:
        return None
    if not isinstance(value, Finding):
        raise TypeError(f"{job.hook} returned {type(value).__name__}, neither a Finding nor None")
    if value.word not in job.words or value.word == ERROR:
        raise ValueError(f"{job.hook} found {value.word!r}, which is not among its words")
    if not isinstance(value.points, (int, float)) or value.points != value.points:
        raise ValueError(f"{job.hook} gave {value.points!r} points")
    if value.facts and len(json.dumps(dict(value.facts))) > MAX_FACTS:
        raise ValueError(f"{job.hook} told facts of more than {MAX_FACTS} characters")
    return value
