"""The lock of one Maildir: ``dovecot-uidlist.lock``, which Dovecot honours, and a lock of the kernel's among ourselves,
so that we wait without polling long and know at once when a holder died."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator

STALE = 120.0  # seconds after which a dot lock belongs to nobody
_EMPTY = 1.0  # seconds after which a dot lock without a whole name in it belongs to nobody: it is written at once
FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk, or a user's part of it, without room."""

_PAUSES = (0.0002, 0.02)  # seconds between two tries, at first and at most

Tell = Callable[..., None]
"""Says in the log what was repaired: a text, and its facts as keywords."""


def untold(_: str, **__: object) -> None:
    """Where there is no log."""


class LockTimeoutError(TimeoutError):
    """Somebody else holds the lock of a mailbox for too long."""


@contextlib.contextmanager
def mailbox_lock(path: str, *, timeout: float = 30.0, tell: Tell = untold) -> Iterator[None]:
    """Holds the lock of the Maildir at ``path``. Raises LockTimeoutError, FileNotFoundError where it is gone."""
    until = time.monotonic() + timeout
    descriptor = os.open(f"{path}/cur", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        ours = _kernel_lock(descriptor, path, until)
        with dot_lock(path, alone=ours, timeout=until - time.monotonic(), tell=tell):
            yield
    finally:
        os.close(descriptor)


def _kernel_lock(descriptor: int, path: str, until: float) -> bool:
    """Whether the file system has such locks; then we hold it."""
    pause, longest = _PAUSES
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise LockTimeoutError(f"{path} is held by another process of ours") from None
            time.sleep(pause)
            pause = min(pause * 1.5, longest)
        except OSError:
            return False
        else:
            return True


@contextlib.contextmanager
def dot_lock(path: str, *, alone: bool = False, timeout: float = 30.0, tell: Tell = untold) -> Iterator[None]:
    """Holds the dot lock only. ``alone`` says that no other process of ours on this machine can hold it. Raises
    LockTimeoutError, OSError."""
    lock = f"{path}/dovecot-uidlist.lock"
    until = time.monotonic() + timeout
    pause, longest = _PAUSES
    while True:
        try:
            made = _make(lock, alone)
            break
        except FileExistsError:
            if holder := _dead(lock, alone):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(lock)
                    tell("a lock that a dead process left is taken away", lock=lock, holder=holder)
                continue
            if time.monotonic() > until:
                raise LockTimeoutError(f"{lock} is held by another process") from None
            time.sleep(pause)
            pause = min(pause * 1.5, longest)
    try:
        yield
    finally:
        if made:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(lock)


def _make(lock: str, alone: bool) -> bool:
    """Makes the file, in Dovecot's own form: whoever finds it can tell whether its holder lives. False where a full
    disk has no room for it: nobody else can make it either, and without it mail can still be read and removed. Raises
    FileExistsError, OSError."""
    try:
        descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if alone and error.errno in FULL:
            return False
        raise
    try:
        os.write(descriptor, f"{os.getpid()}:{socket.gethostname()}".encode())
    except OSError as error:
        if not alone or error.errno not in FULL:
            os.unlink(lock)
            raise
    finally:
        os.close(descriptor)
    return True


def _dead(lock: str, alone: bool) -> str:
    """Who held the lock, if its holder is gone; ``""`` if not."""
    try:
        with open(lock, encoding="utf-8", errors="replace") as file:
            age = time.time() - os.fstat(file.fileno()).st_mtime
            holder = file.read(300)
    except FileNotFoundError:
        return ""
    pid, _, host = holder.partition(":")
    if abs(age) > (STALE if host else _EMPTY):  # or from the future: the clock was put back
        return f"{holder or 'nobody'}, {age:.0f} s ago"
    if host != socket.gethostname() or not pid.isdigit():
        return ""
    if int(pid) == os.getpid():
        return holder if alone else ""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return holder
    except PermissionError:
        pass
    return ""
