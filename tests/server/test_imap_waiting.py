"""A connection that waits without a thread hears its bell, however soon another thread takes it up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from mailguard.net.parking import Reason
from mailguard.server.imap_waiting import Waiting


class Parking:
    """Hands the connection to another thread before the first ``park`` has returned; notes which bells are rung."""

    def __init__(self) -> None:
        self.rung: list[int] = []
        self.parked = threading.Event()
        self.other: threading.Thread | None = None

    def park(self, _stream: object, wake: Callable[[Reason], None], _timeout: float) -> Callable[[], None]:
        if self.other is not None:
            self.parked.set()
            return lambda: self.rung.append(2)
        self.other = threading.Thread(target=wake, args=(Reason.RUNG,))
        self.other.start()
        self.parked.wait(0.2)  # time enough for the other thread, should nothing keep it from parking first
        return lambda: self.rung.append(1)


class Connection(Waiting):
    """In NOTIFY, with nothing to do."""

    def __init__(self, parking: Any) -> None:
        self._parking = parking
        self._around: Any = SimpleNamespace(settings=SimpleNamespace(timeout=1.0))
        self._client: Any = SimpleNamespace(rest=lambda: None, sync=lambda: None, notifies=True)
        self._session: Any = SimpleNamespace(idle=False)
        self._stream: Any = None
        self._rung = False
        self._wake = None
        self._bell = threading.Lock()

    def run(self) -> bool:
        self._park(self._parking)
        return True


def test_the_bell_is_that_of_the_last_parking() -> None:
    parking = Parking()
    connection = Connection(parking)
    connection.run()
    assert parking.other is not None
    parking.other.join(20)
    connection.ring()
    assert parking.rung == [2]
