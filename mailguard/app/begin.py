"""The server's own program, without the command line's libraries, which every worker would keep in memory."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mailguard.app.failure import tell
from mailguard.app.memory import thrifty

_SELF = "mailguard.app.begin"  # __name__ differs there


def become_server(config: Path | None, overrides: Sequence[str]) -> NoReturn:
    """Replaces the calling program by the server of this configuration file, None for the usual one."""
    command = [sys.executable, "-P", "-m", _SELF, str(config or ""), *overrides]
    os.execve(command[0], command, thrifty(os.environ))


def main(config: str, overrides: Sequence[str]) -> int:
    """Starts the server, which then lives on as another program; returns the exit code if it cannot start."""
    gc.disable()  # nothing becomes garbage while modules load; the supervisor switches it on
    try:
        from mailguard.app.resume import sleep
        from mailguard.app.supervisor import Supervisor
        from mailguard.config.schema import find_config

        supervisor = Supervisor(find_config(Path(config) if config else None), overrides)
        supervisor.start(lambda text: print(text, flush=True))  # noqa: T201
        sleep(supervisor)
    except Exception as error:
        return tell(error)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
