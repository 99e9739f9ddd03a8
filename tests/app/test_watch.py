"""The program that the supervisor becomes while nothing happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from mailguard.app import watch

BLOCKED = f"import signal,os,sys,time; signal.pthread_sigmask(signal.SIG_BLOCK, {[int(s) for s in watch.SIGNALS]}); "


def become_watch(*before: str, seconds: str = "0", pids: str = "''") -> subprocess.Popen[str]:
    """A process that runs ``before``, then watches; what it becomes prints the signal."""
    program = [sys.executable, "-I", "-S", str(Path(watch.__file__))]
    code = BLOCKED + "; ".join([*before, f"os.execv({program[0]!r}, [*{program!r}, {pids}, {seconds!r}, '/bin/echo'])"])
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)


def test_a_signal_wakes_it() -> None:
    process = become_watch("print('blocked', flush=True)")
    assert process.stdout is not None
    assert process.stdout.readline() == "blocked\n"
    os.kill(process.pid, signal.SIGHUP)  # perhaps between the two programs: it stays pending
    assert process.communicate(timeout=20)[0].strip() == str(int(signal.SIGHUP))


def test_a_child_that_died_before_wakes_it_unreaped() -> None:
    process = become_watch("child = os.fork()", "child or os._exit(3)", "time.sleep(0.3)")
    assert process.communicate(timeout=20)[0].strip() == str(int(signal.SIGCHLD))


def test_the_end_is_passed_on_to_the_workers_at_once() -> None:
    child = "child = os.fork(); signal.pthread_sigmask(signal.SIG_SETMASK, []) if not child else 0"
    stay = "child or (os.close(1), time.sleep(60), os._exit(0))"
    process = become_watch(child, stay, "print(child, flush=True)", pids="str(child)")
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGTERM)
    assert process.communicate(timeout=20)[0].strip() == str(int(signal.SIGTERM))
    until = time.monotonic() + 10
    while _runs(worker) and time.monotonic() < until:
        time.sleep(0.02)
    assert not _runs(worker)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_time_wakes_it() -> None:
    process = become_watch(seconds="0.1")
    assert process.communicate(timeout=20)[0].strip() == "0"
