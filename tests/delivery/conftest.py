"""A queue with a runner, a fake DNS and scripted next hops."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from peer import Peer

from mailguard.delivery.nexthop import Routes
from mailguard.delivery.outbound import build_relay, build_runner
from mailguard.delivery.queue import Queue
from mailguard.delivery.relay_settings import QueueSettings, RelaySettings
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.event import Event
from mailguard.model.message import Message
from mailguard.state.database import Database, metadata
from mailguard.state.settings import StateSettings
from mailguard.testing import FakeResolver

RAW = b"From: a@office.test\r\nSubject: hello\r\n\r\n.dots\r\nbody\r\n"
SHORT = {"connect": 2, "greeting": 1, "hello": 1, "tls": 2, "mail": 1, "rcpt": 1, "data": 1, "block": 2, "final": 1}


class Events(list[Event]):
    """The events told so far; ``wait`` blocks until there are enough of a kind."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self.changed:
            self.append(event)
            self.changed.notify_all()

    def wait(self, kind: type[Any], count: int = 1, seconds: float = 20) -> list[Any]:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.of(kind)) >= count, seconds), list(self)
            return self.of(kind)

    def of(self, kind: type[Any]) -> list[Any]:
        return [e for e in self if isinstance(e, kind)]


class House:
    """Our side: settings may be changed before ``start``."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(StateSettings(), folder)
        metadata.create_all(self.database.engine)
        self.folder = folder
        self.events = Events()
        self.dns = FakeResolver()
        self.relay: dict[str, Any] = {"timeout": SHORT, "tls": "may"}
        self.queue_settings: dict[str, Any] = {"jitter": 0}
        self.local: Any = None
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None
        self._ids = itertools.count(1)
        self._queue: Queue | None = None

    @property
    def queue(self) -> Queue:
        if self._queue is None:
            routes = Routes(RelaySettings(**self.relay))
            self._queue = Queue(self.database, self.folder / "queue", destination=routes.destination, emit=self.events)
        return self._queue

    def put(
        self, *to: str | Recipient, sender: str | None = "a@office.test", raw: bytes = RAW, ident: str = "", **more: Any
    ) -> str:
        ident = ident or f"m{next(self._ids)}"
        recipients = [r if isinstance(r, Recipient) else Recipient(Address.parse(r)) for r in to]
        envelope = Envelope(ident, Address.parse(sender) if sender else None, **more)
        self.queue.put(envelope, Message(raw), recipients)
        return ident

    def start(self) -> None:
        settings = QueueSettings(**self.queue_settings)
        relay = build_relay(
            RelaySettings(**self.relay),
            settings,
            resolver=self.dns,
            database=self.database,
            hostname="mail.office.test",
        )
        runner = build_runner(
            self.queue,
            relay,
            settings,
            hostname="mail.office.test",
            emit=self.events,
            log=structlog.get_logger(),
            new_id=lambda: f"dsn{next(self._ids)}",
            local=self.local,
        )
        self.thread = threading.Thread(target=runner.run, args=(self.stop,))
        self.thread.start()

    def close(self) -> None:
        self.stop.set()
        if self.thread:
            self.thread.join(60)
            assert not self.thread.is_alive()
        self.database.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


@pytest.fixture
def peers() -> Iterator[Any]:
    made: list[Any] = []

    def make(**more: Any) -> Any:
        made.append(Peer(**more))
        return made[-1]

    yield make
    for peer in made:
        peer.close()
