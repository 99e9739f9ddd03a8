"""Is what we publish what we should publish? Every question asked side by side, under one deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import Enum

from mailguard.net.resolver import Answer, DnsTemporaryError, Resolver
from mailguard.protocol.autoconfig.records import Record

DEADLINE = 7.0  # seconds for all questions together
_PARALLEL = 64
_PATIENCE = 6  # questions without any answer after which the DNS counts as dead


class State(Enum):
    """What came of a question; ``UNKNOWN``: there was no answer."""

    OK = "ok"
    MISSING = "missing"
    DIFFERENT = "different"
    DANGEROUS = "dangerous"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Checked:
    """What was looked at and what was found: ``cure`` is what to do about it, ``""`` where all is well.

    ``optional`` says that mail works without it; ``record`` is the one to publish, if it is about one.
    """

    subject: str
    state: State
    found: tuple[str, ...] = ()
    cure: str = ""
    optional: bool = False
    record: Record | None = None

    @property
    def failed(self) -> bool:
        """Whether mail suffers from it."""
        return self.state is State.DANGEROUS or (self.state is not State.OK and not self.optional)


@dataclass(frozen=True, slots=True)
class Question:
    """Something to find out: ``ask`` gets a resolver bound to the deadline and may raise DnsTemporaryError."""

    subject: str
    ask: Callable[[Resolver], Checked]
    optional: bool = False
    record: Record | None = None

    def unknown(self, reason: str) -> Checked:
        """What to say when there was no answer."""
        cure = f"the DNS gave no answer ({reason}); check the resolver, then try again"
        return Checked(self.subject, State.UNKNOWN, (), cure, self.optional, self.record)


class BoundResolver:
    """A resolver whose every answer comes before one moment, and which gives up early on a dead DNS."""

    def __init__(self, resolver: Resolver, seconds: float) -> None:
        self._resolver = resolver
        self._until = time.monotonic() + seconds
        self._lock = threading.Lock()
        self._answered = self._failed = 0

    @property
    def left(self) -> float:
        """The seconds that are left."""
        return max(0.0, self._until - time.monotonic())

    def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> Answer:
        """See Resolver.query; the time that is left is the most it takes."""
        if self.left < 0.05:
            raise DnsTemporaryError("no answer in time")
        if self._failed >= _PATIENCE and not self._answered:
            raise DnsTemporaryError("the resolver answers nothing at all")
        try:
            answer = self._resolver.query(name, rdtype, timeout=min(timeout or 4.0, self.left))
        except DnsTemporaryError:
            with self._lock:
                self._failed += 1
            raise
        with self._lock:
            self._answered += 1
        return answer


def check(resolver: Resolver, questions: Sequence[Question], *, deadline: float = DEADLINE) -> list[Checked]:
    """Asks everything; what is not answered before the deadline is ``UNKNOWN``."""
    bound = resolver if isinstance(resolver, BoundResolver) else BoundResolver(resolver, deadline)
    pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="dns-check")
    try:
        futures = [pool.submit(_one, bound, question) for question in questions]
        done, _ = wait(futures, timeout=bound.left + 0.2)
        return [_result(future, question, done) for future, question in zip(futures, questions, strict=True)]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _one(resolver: Resolver, question: Question) -> Checked:
    try:
        return question.ask(resolver)
    except DnsTemporaryError as error:
        return question.unknown(" ".join(str(error).split())[:120])


def _result(future: Future[Checked], question: Question, done: set[Future[Checked]]) -> Checked:
    return future.result() if future in done else question.unknown("no answer in time")
