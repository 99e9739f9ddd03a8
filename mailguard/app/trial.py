"""A configuration tried before it counts: its parts are built and its plugins started once, in a process of its own."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

_SECONDS = 30.0


def trial(begin: Callable[[], None], seconds: float = _SECONDS) -> str:
    """Runs ``begin`` in a child; ``""`` if it went well, else what it raised, in one line. It may take ``seconds``."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        _child(begin, write)
    os.close(write)
    try:
        if not select.select([read], [], [], seconds)[0]:
            os.kill(pid, signal.SIGKILL)
            return f"a trial start did not end within {seconds:g} s"
        answer = os.read(read, 4096)
        return "" if answer == b"good" else answer.decode("utf-8", "replace") or "a trial start died"
    finally:
        os.close(read)
        os.waitpid(pid, 0)


def _child(begin: Callable[[], None], write: int) -> None:
    answer = b"good"
    try:
        begin()
    except BaseException as error:
        text = " ".join(str(error).split()) or type(error).__name__
        answer = text.encode("utf-8", "replace")[:4000]
    os.write(write, answer)
    os._exit(0)
