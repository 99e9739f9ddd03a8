"""Which process serves a data folder: a locked file, so that there is never a second one nor a stale number."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from pathlib import Path

_NAME = "server.pid"


class AlreadyRunningError(OSError):
    """Another server has this data folder."""


def claim(data_dir: Path) -> int:
    """Takes the data folder for this process; the descriptor holds it until it is closed. Raises OSError."""
    descriptor = os.open(data_dir / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not inherited by workers, unlike flock
    except OSError:
        pid = os.read(descriptor, 20).decode(errors="replace").strip()
        os.close(descriptor)
        text = f"{data_dir}: another server (process {pid or '?'}) has this data folder; stop it, or see `data_dir`"
        raise AlreadyRunningError(text) from None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


def signal_server(data_dir: Path, number: int = signal.SIGHUP) -> bool:
    """Sends a signal to the server of a data folder; False if none runs or it is not ours to signal."""
    try:
        descriptor = os.open(data_dir / _NAME, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False  # nobody holds it
        except OSError:
            pass
        with contextlib.suppress(ValueError, OSError):
            os.kill(int(os.read(descriptor, 20)), number)
            return True
        return False
    finally:
        os.close(descriptor)
