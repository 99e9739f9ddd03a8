"""Real programs for tests: started on a port or socket of their own, waited for, and stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from mailguard.net.talk import Talk


def need(program: str) -> str:
    """The path of a program; skips the test where it is not installed."""
    path = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"
    found = shutil.which(program, path=path)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """A program in the foreground that listens at ``place`` (see ``Talk``); a context manager.

    It is given ``seconds`` to listen, and told to end, then killed with all it started. What it prints is in ``log``.
    Raises RuntimeError, with what it printed, if it does not come up.
    """

    def __init__(
        self,
        command: Sequence[str],
        place: str,
        *,
        folder: Path,
        seconds: float = 30.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.place = place
        self.log = folder / f"{Path(command[0]).name}.log"
        with self.log.open("wb") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        try:
            self._wait(time.monotonic() + seconds)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(5)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait(self, until: float) -> None:
        while True:
            try:
                Talk(self.place, 1.0).close()
                return
            except OSError as error:
                ended = self._process.poll()
                if ended is not None or time.monotonic() > until:
                    said = self.log.read_text("utf-8", "replace")[-2000:]
                    how = "is silent" if ended is None else f"ended with {ended}"
                    raise RuntimeError(f"{self._process.args!r} {how} ({error}): {said}") from None
                time.sleep(0.05)
