"""One worker of all runs what there must be one of: it holds a lock that its death gives free."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Elected:
    """Waits for the lock file, then runs the jobs, each on a thread, until ``stop``."""

    def __init__(self, path: Path, jobs: Callable[[], list[Callable[[threading.Event], None]]], log: Any) -> None:
        self._path = path
        self._jobs = jobs
        self._log = log
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="elected", daemon=True)
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Starts waiting for the lock."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Ends the jobs and waits for them, ``timeout`` seconds at the most."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout)

    def _run(self) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            self._log.error("no queue runner: its lock cannot be opened", file=str(self._path), error=str(error))
            return
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if self._stop.wait(0.5):
                    os.close(descriptor)
                    return
        self._log.info("this worker runs the queue and the housekeeping", pid=os.getpid())
        for job in self._jobs():
            thread = threading.Thread(target=self._guard, args=(job,), name="elected-job", daemon=True)
            self._threads.append(thread)
            thread.start()
        # The lock stays held, by this descriptor, until the process ends.

    def _guard(self, job: Callable[[threading.Event], None]) -> None:
        while not self._stop.is_set():
            try:
                job(self._stop)
            except Exception as error:
                self._log.error("a background job failed; it starts again in 5 s", exc_info=error)
                self._stop.wait(5)
