"""Threads for calls that may not come back: each can be given up, and is then told to stop."""

from __future__ import annotations

import ctypes
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from mailguard.net.resolver import Answer, DnsTemporaryError, Resolver, ask_all

FOREVER = float("inf")
Question = tuple[str, str]
Found = Answer | DnsTemporaryError
"""A name and a type, and what came of it."""


class AbandonedError(BaseException):
    """Raised inside a plugin whose call was given up. Not an Exception: plugins catch those."""


class NotAtHandError(BaseException):
    """Raised inside a plugin that must not wait for the DNS: the answer would have to be asked for."""


class CallTime(threading.local):
    """Until when the call that runs on this thread may take, on the monotonic clock. Where it may not wait for the
    DNS, ``answers`` are those it has already been given, and ``missing`` what it would have had to ask for, with the
    seconds that each question may take."""

    until: float = FOREVER
    answers: Mapping[Question, Found] | None = None
    missing: dict[Question, float]


class HurriedResolver:
    """A resolver that answers in the time that a call still has: DNS that is silent then looks like DNS that fails
    for now, and not like a plugin that hangs."""

    def __init__(self, resolver: Resolver, time_: CallTime) -> None:
        self._resolver = resolver
        self._time = time_

    def query(self, name: str, rdtype: str, *, timeout: float | None = None) -> Answer:
        """See Resolver.query."""
        if self._time.answers is None:
            return self._resolver.query(name, rdtype, timeout=self._left(timeout))
        found = self._at_hand((name, rdtype), timeout)
        if found is None:
            raise NotAtHandError
        if isinstance(found, DnsTemporaryError):
            raise found
        return found

    def query_all(self, questions: Sequence[Question], *, timeout: float | None = None) -> list[Found]:
        """See ``ask_all``."""
        if self._time.answers is None:
            return ask_all(self._resolver, questions, timeout=self._left(timeout))
        found = [self._at_hand(question, timeout) for question in questions]
        there = [answer for answer in found if answer is not None]
        if len(there) < len(found):
            raise NotAtHandError
        return there

    def _at_hand(self, question: Question, timeout: float | None) -> Found | None:
        """What came of a question, None where it must be asked first."""
        known = self._time.answers.get(question) if self._time.answers else None
        if known is not None:
            return known
        at_hand = getattr(self._resolver, "at_hand", None)
        try:
            answer: Answer | None = at_hand(*question) if at_hand else None
            if answer is None:  # noted, as some plugins swallow whatever is raised
                self._time.missing[question] = self._left(timeout) or FOREVER
        except DnsTemporaryError as error:
            return error
        return answer

    def _left(self, timeout: float | None) -> float | None:
        if self._time.until is FOREVER:
            return timeout
        left = (self._time.until - time.monotonic()) * 0.85
        if left <= 0.01:
            raise DnsTemporaryError("no time left to ask")
        return min(timeout or left, left)


class Pool:
    """Up to ``size`` daemon threads that run calls; started when first needed, so it may be built before a fork."""

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = 0
        self._running: dict[Future[Any], int] = {}
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

    def abandon(self, future: Future[Any]) -> bool:
        """Gives a call up. One that runs Python code ends by AbandonedError; one that waits inside the system does
        when it comes back. Returns whether it had begun."""
        if future.cancel():
            return False
        with self._lock:
            thread = self._running.get(future)
            if thread is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(AbandonedError))
        return thread is not None

    def close(self) -> None:
        """Lets idle threads end; those that hang are left behind."""
        with self._lock:
            for _ in range(self._threads):
                self._jobs.put(None)

    def _work(self) -> None:
        going, current = True, list[Future[Any]]()
        while going:
            try:
                going = self._next(current)
            except AbandonedError as late:  # it came just after the call had ended
                for future in current:
                    if not future.done():
                        future.set_exception(late)

    def _next(self, current: list[Future[Any]]) -> bool:
        with self._lock:
            self._idle += 1
        job = self._jobs.get()
        with self._lock:
            self._idle -= 1
        if job is None:
            return False
        future, call = job
        current[:] = [future]
        if not future.set_running_or_notify_cancel():
            return True
        with self._lock:
            self._running[future] = threading.get_ident()
        try:
            result = call()
        except BaseException as error:  # whatever a plugin raises must not end the thread
            self._ended(future)
            future.set_exception(error)
        else:
            self._ended(future)
            future.set_result(result)
        return True

    def _ended(self, future: Future[Any]) -> None:
        # From here on the thread cannot be told to stop: what was sent before arrives when the lock is let go.
        with self._lock:
            self._running.pop(future, None)


def resident() -> int:
    """Octets of memory that this process uses now; 0 where that cannot be told."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - the path of every slow call
            return int(file.read().split()[1]) * 4096
    except (OSError, ValueError, IndexError):
        return 0
