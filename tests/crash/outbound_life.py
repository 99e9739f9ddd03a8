"""Lives of a queue and its runner, each in a process of its own that ends by itself, or by SIGKILL at a step.

Steps are counted: before and after every fsync, unlink, rename and commit. Each line of standard input,
``FOLDER PORT STEP MESSAGES``, is one life: MESSAGES are put in, then the runner works until nothing is left; STEP 0
never dies. Each is answered by one line: the number of its steps (0: it was killed), and the ids that ``put`` took.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog

from mailguard.delivery.nexthop import Routes
from mailguard.delivery.outbound import build_relay, build_runner
from mailguard.delivery.queue import Queue
from mailguard.delivery.relay_settings import QueueSettings, RelaySettings
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.state.database import Database, metadata
from mailguard.state.queue import queue_recipient
from mailguard.state.settings import StateSettings
from mailguard.testing import FakeResolver


class Steps:
    """Counts, and kills the process at one of them."""

    def __init__(self, last: int) -> None:
        self.done = 0
        self._last = last
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.done += 1
            if self.done == self._last:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **more: Any) -> Any:
            self()
            result = call(*args, **more)
            self()
            return result

        return run

    def install(self) -> None:
        for name in ("fsync", "unlink", "rename"):
            setattr(os, name, self.around(getattr(os, name)))
        original = Database.write

        @contextmanager
        def write(database: Database, *, durable: bool = False) -> Iterator[sa.Connection]:
            with original(database, durable=durable) as connection:
                yield connection
                self()
            self()

        Database.write = write  # type: ignore[method-assign, assignment]


def live(folder: Path, port: int, step: int, messages: int, told: int) -> int:
    """Writes what is taken to the descriptor ``told``; returns the number of steps."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    database = Database(StateSettings(), folder)
    metadata.create_all(database.engine)
    steps = Steps(step)
    steps.install()
    hosts = {name: {"host": "127.0.0.1", "port": port} for name in ("x.test", "y.test", "office.test")}
    settings = RelaySettings.model_validate({"destination": hosts, "tls": "none"})
    queue = Queue(database, folder / "queue", destination=Routes(settings).destination)
    for n in range(messages):
        to = [Recipient(Address.parse(text)) for text in ("good@x.test", "bad@x.test", "good@y.test")]
        message = Message(f"Subject: number {n}\r\n\r\nbody\r\n".encode())
        queue.put(Envelope(f"m{n}", Address.parse("a@office.test")), message, to)
        os.write(told, f"m{n} ".encode())
    work(database, queue, settings)
    return steps.done


def work(database: Database, queue: Queue, settings: RelaySettings) -> None:
    """Runs the runner until the queue is empty."""
    own = {"hostname": "mail.office.test"}
    relay = build_relay(settings, QueueSettings(), resolver=FakeResolver(), database=database, **own)
    ids = (f"r{os.getpid()}-{n}" for n in itertools.count())
    runner = build_runner(
        queue,
        relay,
        QueueSettings(),
        emit=lambda event: None,
        log=structlog.get_logger(),
        new_id=lambda: next(ids),
        **own,
    )
    stop = threading.Event()
    thread = threading.Thread(target=runner.run, args=(stop,))
    thread.start()
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with database.read() as connection:
            if not connection.execute(sa.select(sa.func.count()).select_from(queue_recipient)).scalar():
                break
        time.sleep(0.01)
    stop.set()
    thread.join()


def main() -> None:
    for line in sys.stdin:
        folder, port, step, messages = line.split()
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            done = live(Path(folder), int(port), int(step), int(messages), write)
            os.write(write, f"steps {done}".encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            told, _, steps = pipe.read().partition("steps ")
        os.waitpid(pid, 0)
        print(steps or 0, *told.split(), flush=True)


if __name__ == "__main__":
    main()
