"""The change bell: rings when any process changes a Maildir. inotify, polling where there is none."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable
from struct import Struct
from typing import Any

if sys.platform == "linux":
    from inotify_simple import INotify
    from inotify_simple import flags as bits

    _FILES = bits.MOVED_TO | bits.MOVED_FROM | bits.CREATE | bits.DELETE | bits.DELETE_SELF
    _FOLDER = bits.MOVE_SELF | bits.DELETE_SELF
    _GONE = int(bits.IGNORED)
    _OVERFLOW = int(bits.Q_OVERFLOW)

_HEAD = Struct("iIII")  # inotify(7): watch, mask, cookie, length of the name
_EVENTS = 1 << 16  # octets read at a time; the kernel keeps the rest
_GATHER = 0.001  # seconds in which the many events of one change become one ring
_ENTRIES = "/."  # behind the path of a folder whose own entries are looked at
POLL = 1.0
"""Seconds between two looks at folders that the kernel does not watch for us."""


class Registration:
    """One listener of one Maildir; ``close`` ends it."""

    __slots__ = ("_bell", "callback", "path")

    def __init__(self, bell: Bell, path: str, callback: Callable[[], object]) -> None:
        self._bell = bell
        self.path = path
        self.callback = callback

    def close(self) -> None:
        """Rings no more. May be called again, and from the callback."""
        self._bell.remove(self)


class Bell:
    """All listeners of one process; its thread starts at the first registration, so make it before a fork at will.

    Callbacks run on the bell's thread, or on that of whoever changed the mailbox: they must be quick, must not
    block, and must expect to be called more often than something changed.
    """

    def __init__(self, log: Any = None, *, kernel: bool = True, poll: float = POLL) -> None:
        self._log = log
        self._kernel = kernel and sys.platform == "linux"
        self._poll = poll
        self._lock = threading.Lock()
        self._listeners: dict[str, set[Registration]] = {}
        self._watches: dict[int, str] = {}  # the kernel's watch -> Maildir
        self._polled: dict[str, tuple[int, ...]] = {}  # Maildir -> times of its folders
        self._inotify: Any = None
        self._wake: tuple[int, int] | None = None
        self._thread: threading.Thread | None = None

    def register(self, path: str | os.PathLike[str], callback: Callable[[], object]) -> Registration:
        """Calls back whenever a message comes, goes or changes its flags in this Maildir, or the Maildir goes."""
        return self._register(os.fspath(path), callback)

    def register_entries(self, path: str | os.PathLike[str], callback: Callable[[], object]) -> Registration:
        """Calls back when an entry of this very folder was made, replaced or removed: folders of other mailboxes, and
        files about all of them. It is looked at every POLL seconds, for the kernel would tell of every delivery."""
        return self._register(os.fspath(path) + _ENTRIES, callback)

    def _register(self, path: str, callback: Callable[[], object]) -> Registration:
        made = Registration(self, path, callback)
        with self._lock:
            self._start()
            others = self._listeners.setdefault(made.path, set())
            others.add(made)
            if len(others) == 1:
                self._observe(made.path)
        return made

    def remove(self, registration: Registration) -> None:
        """Ends a registration."""
        path = registration.path
        with self._lock:
            listeners = self._listeners.get(path)
            if listeners is None:
                return
            listeners.discard(registration)
            if not listeners:
                del self._listeners[path]
                self._polled.pop(path, None)
                for watch in [watch for watch, of in self._watches.items() if of == path]:
                    self._drop(watch)

    def ring(self, path: str | os.PathLike[str]) -> None:
        """Tells this process's listeners at once; those of other processes hear it from the kernel."""
        if self._listeners:
            self._call((os.fspath(path),))

    def close(self) -> None:
        """Ends the thread; listeners hear nothing any more."""
        with self._lock:
            thread, self._thread = self._thread, None
            wake, self._wake = self._wake, None
            self._listeners.clear()
        if thread is not None and wake is not None:
            os.write(wake[1], b".")
            thread.join(5)
            for descriptor in wake:
                os.close(descriptor)

    def _call(self, paths: Iterable[str]) -> None:
        with self._lock:
            listeners = [each for path in paths for each in self._listeners.get(path, ())]
        for each in listeners:
            try:
                each.callback()
            except Exception as error:
                if self._log is None:
                    raise
                self._log.error("a listener of the change bell failed", path=each.path, exc_info=error)

    # Below: with the lock held.

    def _start(self) -> None:
        if self._thread is not None:
            return
        self._wake = os.pipe()
        if self._kernel:
            try:
                self._inotify = INotify(nonblocking=True)
            except OSError as error:
                self._kernel = False
                self._complain(error, "fs.inotify.max_user_instances")
        self._thread = threading.Thread(target=self._run, args=(self._wake[0],), name="bell", daemon=True)
        self._thread.start()

    def _observe(self, path: str) -> None:
        if self._kernel and not path.endswith(_ENTRIES):
            made: list[int] = []
            try:
                for folder, mask in (("new", _FILES), ("cur", _FILES), ("", _FOLDER)):
                    made.append(self._inotify.add_watch(os.path.join(path, folder), mask))
                self._watches |= dict.fromkeys(made, path)
                return
            except OSError as error:
                self._complain(error, "fs.inotify.max_user_watches")
                for watch in made:
                    self._drop(watch)
        self._polled[path] = _times(path)
        if self._wake is not None:
            os.write(self._wake[1], b"+")

    def _drop(self, watch: int) -> None:
        self._watches.pop(watch, None)
        with contextlib.suppress(OSError):
            self._inotify.rm_watch(watch)

    def _complain(self, error: OSError, limit: str) -> None:
        if self._log is not None:
            text = f"changes are looked for every {self._poll:g} s instead; raise {limit}"
            self._log.warning("the kernel does not watch a folder", error=str(error), cure=text)

    # Below: on the bell's thread.

    def _run(self, wake: int) -> None:
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        inotify = self._inotify
        if inotify is not None:
            poll.register(inotify.fileno(), select.POLLIN)
        looked = time.monotonic()
        while True:
            ready = poll.poll(self._poll * 1000 if self._polled else None)
            if any(descriptor == wake for descriptor, _ in ready):
                if b"." in os.read(wake, 100):
                    break
                continue
            if ready:
                time.sleep(_GATHER)
                self._call(self._rung(os.read(inotify.fileno(), _EVENTS)))
            if self._polled and time.monotonic() - looked >= self._poll:
                looked = time.monotonic()
                self._call(self._changed())
        if inotify is not None:
            inotify.close()

    def _rung(self, events: bytes) -> set[str]:
        """The Maildirs that these events are about."""
        paths, at = set(), 0
        with self._lock:
            while at < len(events):
                watch, mask, _, length = _HEAD.unpack_from(events, at)
                at += _HEAD.size + length
                if mask & _OVERFLOW:
                    return set(self._listeners)
                path = self._watches.get(watch)
                if path is not None:
                    paths.add(path)
                if mask & _GONE:
                    self._watches.pop(watch, None)
        return paths

    def _changed(self) -> list[str]:
        """The Maildirs among those looked at that are not as they were."""
        with self._lock:
            before = dict(self._polled)
        now = {path: _times(path) for path in before}
        with self._lock:
            self._polled |= {path: times for path, times in now.items() if path in self._polled}
        return [path for path, times in now.items() if times != before[path]]


def _times(path: str) -> tuple[int, ...]:
    found = []
    for folder in ("",) if path.endswith(_ENTRIES) else ("new", "cur"):
        try:
            found.append(os.stat(f"{path}/{folder}").st_mtime_ns)
        except OSError:
            found.append(-1)
    return tuple(found)
