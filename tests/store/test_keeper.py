from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from mailguard.store import keeper
from mailguard.store.keeper import Keeper


class Watched(threading.Event):
    """Notes how long it is waited for, and lets nobody wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout)
        return False


@pytest.mark.parametrize(("own", "rest"), [(2.0, 8.0), (1.5, 8.0), (0.5, 38.0)])
def test_it_rests_longer_where_others_want_the_cpu(monkeypatch: pytest.MonkeyPatch, own: float, rest: float) -> None:
    clock = {"wall": 100.0, "cpu": 5.0}
    fake = SimpleNamespace(monotonic=lambda: clock["wall"], thread_time=lambda: clock["cpu"])
    monkeypatch.setattr(keeper, "time", fake)

    def work(_most: int) -> int:
        clock["wall"] += 2.0
        clock["cpu"] += own
        return 3

    stop = Watched()
    assert Keeper._timed(work, stop) == 3
    assert stop.waits == [rest]


def test_it_does_not_rest_where_there_was_nothing_to_do() -> None:
    stop = Watched()
    assert Keeper._timed(lambda _: 0, stop) == 0
    assert stop.waits == []
