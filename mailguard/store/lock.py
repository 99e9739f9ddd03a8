"""The lock of one Maildir: ``dovecot-uidlist.lock``, which Dovecot honours, and a lock of the kernel's among ourselves,
so that we wait without polling long and know at once when a holder died."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator

STALE = 120.0  # seconds after which a dot lock belongs to nobody
_EMPTY = 1.0  # seconds after which a dot lock without a name in it belongs to nobody: it is written at once
_PAUSES = (0.0002, 0.02)  # seconds between two tries, at first and at most


class LockTimeoutError(TimeoutError):
    """Somebody else holds the lock of a mailbox for too long."""


@contextlib.contextmanager
def mailbox_lock(path: str, *, timeout: float = 30.0) -> Iterator[None]:
    """Holds the lock of the Maildir at ``path``. Raises LockTimeoutError, FileNotFoundError where it is gone."""
    until = time.monotonic() + timeout
    descriptor = os.open(f"{path}/cur", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        ours = _kernel_lock(descriptor, path, until)
        with dot_lock(path, alone=ours, timeout=until - time.monotonic()):
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
def dot_lock(path: str, *, alone: bool = False, timeout: float = 30.0) -> Iterator[None]:
    """Holds the dot lock only. ``alone`` says that no other process of ours on this machine can hold it. Raises
    LockTimeoutError, OSError."""
    lock = f"{path}/dovecot-uidlist.lock"
    until = time.monotonic() + timeout
    pause, longest = _PAUSES
    while True:
        try:
            descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            break
        except FileExistsError:
            if _dead(lock, alone):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(lock)
                continue
            if time.monotonic() > until:
                raise LockTimeoutError(f"{lock} is held by another process") from None
            time.sleep(pause)
            pause = min(pause * 1.5, longest)
    try:
        # In Dovecot's own form: whoever finds it can tell whether its holder lives.
        os.write(descriptor, f"{os.getpid()}:{socket.gethostname()}".encode())
        os.close(descriptor)
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(lock)


def _dead(lock: str, alone: bool) -> bool:
    """Whether the lock's holder is gone."""
    try:
        with open(lock, encoding="utf-8", errors="replace") as file:
            age = time.time() - os.fstat(file.fileno()).st_mtime
            pid, _, host = file.read(300).partition(":")
    except FileNotFoundError:
        return False
    if age > (STALE if pid else _EMPTY):
        return True
    if host != socket.gethostname() or not pid.isdigit():
        return False
    if int(pid) == os.getpid():
        return alone
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
