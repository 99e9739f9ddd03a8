"""Between two events the supervisor sleeps as another program (``watch``): how it goes there, and comes back."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from mailguard.app import watch
from mailguard.app.supervisor import Supervisor
from mailguard.net.listening import ListenerSettings

_SELF = "mailguard.app.resume"  # __name__ differs once we are back
_AGAIN = 5.0  # seconds until the next try to replace a worker


def sleep(supervisor: Supervisor) -> NoReturn:
    """Becomes the watching program, with all that the supervisor knows in an unnamed file."""
    state = {
        "config": str(supervisor.config),
        "overrides": supervisor.overrides,
        "texts": supervisor.texts,
        "sockets": [(settings.model_dump_json(), _keep(sock.fileno())) for settings, sock in supervisor.sockets],
        "workers": list(supervisor.workers.items()),
        "cpus": list(supervisor.cpus.items()),
        "missing": supervisor.missing,
        "claim": _keep(supervisor.claim),
    }
    _sleep(json.dumps(state).encode(), supervisor.workers, _AGAIN if supervisor.missing else 0)


def _sleep(state: bytes, workers: Mapping[int, float], seconds: float) -> NoReturn:
    memory = os.memfd_create("supervisor", 0)
    os.write(memory, state)
    sys.stdout.flush()
    pids = ",".join(str(pid) for pid in workers)
    python = sys.executable
    watching = [python, "-I", "-S", watch.__file__, pids, str(seconds)]
    os.execv(python, [*watching, python, "-P", "-m", _SELF, str(memory)])


def _keep(descriptor: int) -> int:
    os.set_inheritable(descriptor, True)
    return descriptor


def wake(state: Mapping[str, Any]) -> Supervisor:
    """The supervisor that went to sleep with this state."""
    supervisor = Supervisor(Path(state["config"]), state["overrides"], known=state["texts"])
    supervisor.sockets = [
        (ListenerSettings.model_validate_json(settings), _opened(descriptor))
        for settings, descriptor in state["sockets"]
    ]
    supervisor.workers = dict(state["workers"])
    supervisor.cpus = dict(state["cpus"])
    supervisor.missing = state["missing"]
    supervisor.claim = state["claim"]
    return supervisor


def _opened(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    return socket.socket(fileno=descriptor)


def main(memory: int, number: int) -> int:
    """Deals with a signal (0: with missing workers), and sleeps again; returns the exit code at the end."""
    raw = os.pread(memory, os.fstat(memory).st_size, 0)
    os.close(memory)
    state = json.loads(raw)
    try:
        supervisor = wake(state)
        supervisor.take_over()
        if number in (signal.SIGTERM, signal.SIGINT):
            supervisor.stop()
            return 0
        if number == signal.SIGHUP:
            supervisor.reload()
        supervisor.tend()
    except Exception:
        if number in (signal.SIGTERM, signal.SIGINT):
            raise
        traceback.print_exc()  # the workers go on; a key that cannot be read, say, may be readable in a while
        time.sleep(1)
        _sleep(raw, dict(state["workers"]), _AGAIN)
    sleep(supervisor)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
