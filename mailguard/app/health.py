"""Does the server work? What /healthz answers, and the values that /metrics reads off rather than counts."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import sqlalchemy as sa

import mailguard
from mailguard.observe.metrics import Sample
from mailguard.state.database import Database
from mailguard.state.queue import HELD, queue_message, queue_recipient

LEAST_SPACE = 100 << 20  # octets
LEAST_FILES = 1_000
SILENCE = 60.0  # seconds after which the queue runner counts as dead: it is at work every five
_FRESH = 1.0  # seconds that an answer holds: strangers may ask as often as they like
BEAT = "runner.beat"


class Health:
    """Looks at the state database, the disk and the queue runner of one data folder. Safe for threads."""

    def __init__(self, database: Database, data_dir: Path, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._data_dir = data_dir
        self._now = now
        self._began = now()
        self._lock = threading.Lock()
        self._asked = float("-inf")
        self._troubles: tuple[str, ...] = ()

    def beat(self) -> None:
        """The queue runner is at work."""
        path = self._data_dir / BEAT
        with contextlib.suppress(OSError):
            path.touch(mode=0o600)
            os.utime(path, (self._now(), self._now()))

    def troubles(self) -> Sequence[str]:
        """What is wrong, in words; nothing if all is well."""
        with self._lock:
            if self._now() - self._asked >= _FRESH:
                self._troubles = tuple(self._look())
                self._asked = self._now()
            return self._troubles

    def _look(self) -> Iterator[str]:
        try:
            with self._database.read() as connection:
                connection.execute(sa.text("SELECT 1")).scalar()
        except sa.exc.SQLAlchemyError as error:
            yield f"the state database does not answer: {str(error).splitlines()[0]}"
        try:
            free, files = shutil.disk_usage(self._data_dir).free, os.statvfs(self._data_dir)
        except OSError as error:
            yield f"the data folder cannot be read: {error.strerror}"
        else:
            if free < LEAST_SPACE:
                yield f"the disk is full: {free >> 20} MiB are free"
            if files.f_files and files.f_favail < LEAST_FILES:
                yield f"the file system is full: {files.f_favail} more files fit"
        if not os.access(self._data_dir, os.W_OK):
            yield "the data folder cannot be written"
        if (silence := self._silence()) > SILENCE:
            yield f"the queue runner has not been at work for {silence:.0f} s"

    def _silence(self) -> float:
        """Seconds since the last beat; a server that has just started is given time for its first."""
        try:
            last = (self._data_dir / BEAT).stat().st_mtime
        except OSError:
            last = 0.0
        return max(0.0, self._now() - max(last, self._began))

    def samples(self) -> Iterator[Sample]:
        """Values for /metrics."""
        yield Sample("mailguard_build_info", 1, (("version", mailguard.__version__),))
        yield Sample("mailguard_queue_runner_seen_seconds", round(self._silence(), 1))
        with contextlib.suppress(OSError):
            yield Sample("mailguard_disk_free_octets", shutil.disk_usage(self._data_dir).free)
        state = queue_recipient.c.state
        try:
            with self._database.read() as connection:
                counted = connection.execute(sa.select(state, sa.func.count()).group_by(state)).all()
                waiting = sa.select(queue_recipient.c.message_id).where(state != HELD)
                oldest = sa.select(sa.func.min(queue_message.c.created)).where(queue_message.c.id.in_(waiting))
                since = connection.execute(oldest).scalar()
        except sa.exc.SQLAlchemyError:
            return
        numbers = {int(state): count for state, count in counted}
        held = numbers.pop(HELD, 0)
        yield Sample("mailguard_queue_recipients", sum(numbers.values()), (("state", "waiting"),))
        yield Sample("mailguard_queue_recipients", held, (("state", "held"),))
        yield Sample("mailguard_queue_oldest_seconds", round(self._now() - since, 1) if since else 0.0)
