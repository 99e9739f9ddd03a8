"""INPROGRESS: tells a client from time to time that a slow command is still under way (RFC 9585)."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

from mailguard.protocol.imap.text import quoted

EVERY = 10.0  # seconds


class Progress:
    """Watches the commands of all connections of a worker; its thread runs only while one of them is slow."""

    def __init__(self, every: float = EVERY) -> None:
        self._every = every
        self._running: dict[int, tuple[float, bytes, Callable[[bytes], None]]] = {}
        self._lock = threading.Lock()
        self._watching = False

    def begin(self, tag: bytes, tell: Callable[[bytes], None]) -> None:
        """A command begins on this thread; ``tell`` sends a line from another thread, and may raise OSError."""
        self._running[threading.get_ident()] = (time.monotonic(), tag, tell)
        if not self._watching:
            self._watch()

    def end(self) -> None:
        """It is over."""
        del self._running[threading.get_ident()]

    def _watch(self) -> None:
        with self._lock:
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._run, name="progress", daemon=True).start()

    def _run(self) -> None:
        idle = 0
        while idle < 6:  # a minute without any command
            time.sleep(self._every)
            slow = [r for r in list(self._running.values()) if time.monotonic() - r[0] >= self._every * 0.9]
            idle = 0 if self._running else idle + 1
            for _, tag, tell in slow:
                with contextlib.suppress(OSError):
                    tell(b"* OK [INPROGRESS (%b NIL NIL)] still at it\r\n" % quoted(tag))
        self._watching = False
