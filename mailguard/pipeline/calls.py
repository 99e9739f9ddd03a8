"""Calls of plugins under a deadline: side by side where they wait for the network, their faults counted."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mailguard.net.resolver import Resolver
from mailguard.pipeline.finding import Finding
from mailguard.pipeline.pool import FOREVER, CallTime, Pool, resident
from mailguard.pipeline.registry import CHECKS, ERROR
from mailguard.pipeline.rounds import Rounds

MAX_FACTS = 16_384  # characters of JSON that one finding may carry
GLANCE = 0.05  # seconds between looks at the memory while a call takes its time
_FEW, _SHORT = 12, 100  # facts, and characters of each: six in JSON at most
_NUMBERS = (int, float, bool)
MAX_STUCK = 8  # calls of one plugin that may hang at the same time before it is left out


class DeadlineError(Exception):
    """A plugin took longer than it may."""


class HungryError(Exception):
    """The process grew by more than it may while the plugin worked."""


@dataclass(slots=True)
class Health:
    """Faults in a row of one plugin, until when it is switched off, and how many of its calls hang."""

    faults: int = 0
    off_until: float = 0.0
    stuck: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(slots=True)
class Job:
    """One call to make; ``words`` are those it may find; ``quick`` and ``repeatable`` as in ``PluginInfo``."""

    plugin: str
    hook: str
    call: Callable[[], Any]
    deadline: float
    words: Mapping[str, Any]
    quick: bool = False
    repeatable: bool = False


@dataclass(slots=True)
class Result:
    """What came of a call: a finding or None, and the milliseconds it took; ``fault`` is the exception, if any,
    ``told`` what a hook that is no check returned."""

    plugin: str
    finding: Finding | None
    ms: float
    fault: BaseException | None = None
    told: Any = None


class TimedCall:
    """A job under way: call it. ``ms`` are the milliseconds since it was first called."""

    __slots__ = ("_begun", "_time", "_until", "job", "ms")

    def __init__(self, job: Job, time_: CallTime) -> None:
        self.job = job
        self.ms = 0.0
        self._time = time_
        self._begun = self._until = 0.0

    def __call__(self) -> Any:
        if not self._begun:  # a check may be called again, in what is left of its time
            self._begun, self._until = time.perf_counter(), time.monotonic() + self.job.deadline
        self._time.until = self._until
        try:
            return self.job.call()
        finally:
            self._time.until = FOREVER
            self.ms = (time.perf_counter() - self._begun) * 1000


class Calls:
    """Makes the calls of one worker. ``on_fault(plugin, error, switched_off)`` is told of each fault; ``memory`` are
    the octets by which the process may grow while a call runs (0: any); ``time_`` knows what time a call has left;
    ``resolver`` is asked what repeatable checks miss."""

    def __init__(
        self,
        *,
        faults: int = 10,
        off_for: float = 600.0,
        threads: int = 64,
        memory: int = 0,
        time_: CallTime | None = None,
        resolver: Resolver | None = None,
        on_fault: Callable[[str, BaseException, bool], None] = lambda *_: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._faults = faults
        self._off_for = off_for
        self._memory = memory
        self._time = time_ or CallTime()
        self._rounds = Rounds(self._time, resolver)
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
        started = time.perf_counter()
        calls = [TimedCall(job, self._time) for job in jobs]
        waiting = [call for call in calls if not call.job.quick]
        made = self._begun(waiting) if waiting else {}
        return [self._gather(call, made.get(call, call), started) for call in calls]

    def _begun(self, calls: Sequence[TimedCall]) -> dict[TimedCall, Future[Any] | Callable[[], Any]]:
        """What came of these calls, or will: of those that wait for something."""
        repeatable = [call for call in calls if call.job.repeatable]
        threaded = [call for call in calls if not call.job.repeatable]
        made: dict[TimedCall, Future[Any] | Callable[[], Any]] = {call: self._submit(call) for call in threaded}
        # Others are watched while they run: then nothing else may be waited for.
        made |= self._rounds.made(repeatable, ask=not threaded) if repeatable else {}
        made |= {call: self._submit(call) for call in repeatable if call not in made}
        return made

    def _submit(self, call: Callable[[], Any]) -> Future[Any]:
        # What a plugin writes into the log on another thread is still about this message.
        return self._pool.submit(partial(copy_context().run, call))

    def close(self) -> None:
        """Lets the threads end."""
        self._pool.close()

    def _gather(self, call: TimedCall, future: Future[Any] | Callable[[], Any], started: float) -> Result:
        job = call.job
        try:
            value = self._wait(call, future, started)
            checking = job.hook in CHECKS
            finding = check_finding(job, value) if checking else None
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise
            self._count_fault(job.plugin, error)
            text = f"{type(error).__name__}: {error}"[:500]
            return Result(job.plugin, Finding(ERROR, "the check failed", text), call.ms, error)
        if job.plugin in self._health:
            self._health[job.plugin].faults = 0
        return Result(job.plugin, finding, call.ms, told=None if checking else value)

    def _wait(self, call: TimedCall, future: Future[Any] | Callable[[], Any], started: float) -> Any:
        job = call.job
        if not isinstance(future, Future):
            value = future()
            if call.ms > job.deadline * 1000:
                raise DeadlineError(f"{call.ms / 1000:.1f} s, though it promises to be quick")
            return value
        until, before = started + job.deadline, 0
        while True:
            left = max(until - time.perf_counter(), 0.001)
            try:
                return future.result(min(left, GLANCE) if self._memory else left)
            except TimeoutError:
                if future.done():
                    raise
            now = resident() if self._memory else 0
            before = before or now
            if time.perf_counter() >= until:
                problem: Exception = DeadlineError(f"no answer within {job.deadline:g} s")
            elif now - before > self._memory:
                problem = HungryError(f"the process grew by {(now - before) >> 20} MiB meanwhile")
            else:
                continue
            call.ms = (time.perf_counter() - started) * 1000
            self._abandon(job.plugin, future)
            raise problem

    def _abandon(self, plugin: str, future: Future[Any]) -> None:
        if not self._pool.abandon(future):
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


def check_finding(job: Job, value: Any) -> Finding | None:
    """What a check returned as a finding; raises TypeError or ValueError for what no check may return."""
    if value is None:
        return None
    if not isinstance(value, Finding):
        raise TypeError(f"{job.hook} returned {type(value).__name__}, neither a Finding nor None")
    if value.word not in job.words or value.word == ERROR:
        raise ValueError(f"{job.hook} found {value.word!r}, which is not among its words")
    if not isinstance(value.points, (int, float)) or value.points != value.points:
        raise ValueError(f"{job.hook} gave {value.points!r} points")
    if value.facts and not _slight(value.facts) and len(json.dumps(dict(value.facts))) > MAX_FACTS:
        raise ValueError(f"{job.hook} told facts of more than {MAX_FACTS} characters")
    return value


def _slight(facts: Mapping[str, Any]) -> bool:
    """Whether facts are so few and plain that their JSON need not be made to see that it is short."""
    return len(facts) <= _FEW and all(
        type(name) is str and len(name) <= _SHORT and (type(value) in _NUMBERS or _is_short(value))
        for name, value in facts.items()
    )


def _is_short(value: object) -> bool:
    return type(value) is str and len(value) <= _SHORT
