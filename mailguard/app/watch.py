"""What the first process runs while nothing happens: it waits for a signal, in 5 MB instead of 40.

After a fork, every page that a worker writes to is kept once more for its parent. So the supervisor, which has
nothing to do with those pages until a worker dies or the configuration changes, replaces itself by this program,
and comes back when there is a signal: the process, its children, its descriptors and its signals stay the same.

Run as ``python -I -S watch.py PIDS SECONDS COMMAND ...``; standard library only, and little of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


def wait(seconds: float) -> int:
    """The next signal that matters, 0 after so many seconds (0: wait for ever). The signals must be blocked."""
    while True:
        with contextlib.suppress(ChildProcessError):
            if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):  # left for the supervisor to reap
                return int(signal.SIGCHLD)
        got = signal.sigtimedwait(SIGNALS, seconds) if seconds else signal.sigwaitinfo(SIGNALS)
        number = got.si_signo if got else 0
        if number != signal.SIGCHLD:
            return number


def main(arguments: list[str]) -> None:
    """Waits, and becomes ``COMMAND ... SIGNAL``."""
    pids, seconds, *command = arguments
    number = wait(float(seconds))
    if number in (signal.SIGTERM, signal.SIGINT):  # they need not wait until the supervisor is back
        for pid in pids.split(","):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(pid), signal.SIGTERM)
    os.execv(command[0], [*command, str(number)])


if __name__ == "__main__":
    main(sys.argv[1:])
