"""What is written down later: all of it, together, and nothing twice."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from pathlib import Path

from mailguard.testing import MemoryStore
from mailguard_spamscore.history import History, Past
from mailguard_spamscore.journal import Arrival, Journal
from mailguard_spamscore.notebook import MOST, Notebook

NOW = 1_700_000_000.0
NEVER = 3600.0


def arrival(number: int) -> Arrival:
    return Arrival("ann@office.example", f"{number:040}", NOW, 1.5, False, b"x")


def test_waits_and_adds_up(tmp_path: Path) -> None:
    journal, history = Journal(tmp_path / "journal.db"), History(MemoryStore())
    notebook = Notebook(journal, history, delay=NEVER)
    for number in range(3):
        notebook.note([arrival(number)], {"*/shop.example": Past(good=0.3), "*/192.0.2.0/24": Past(bad=0.3)}, NOW)
    assert history.past("*/shop.example", NOW) == Past(at=NOW)
    notebook.write()
    notebook.write()
    assert history.past("*/shop.example", NOW) == Past(good=0.9, at=NOW)
    assert history.past("*/192.0.2.0/24", NOW).bad == 0.9
    assert len(journal.claim_older(NOW + 1, 10)) == 3
    journal.close()


def test_writes_by_itself(tmp_path: Path) -> None:
    journal, written = Journal(tmp_path / "journal.db"), threading.Event()

    class Told(History):
        def add_all(self, more: Mapping[str, Past], now: float) -> None:
            super().add_all(more, now)
            written.set()

    notebook = Notebook(journal, Told(MemoryStore()), delay=0.0)
    notebook.note([arrival(1)], {"*/shop.example": Past(good=1)}, NOW)
    assert written.wait(30)
    assert len(journal.claim_older(NOW + 1, 10)) == 1
    notebook.write()
    journal.close()


def test_a_flood_does_not_wait(tmp_path: Path) -> None:
    journal, history = Journal(tmp_path / "journal.db"), History(MemoryStore())
    notebook = Notebook(journal, history, delay=NEVER)
    notebook.note([arrival(number) for number in range(MOST)], {}, NOW)
    assert len(journal.claim_older(NOW + 1, MOST)) == MOST
    journal.close()


def test_a_timer_that_cannot_write_says_so(tmp_path: Path) -> None:
    journal, told = Journal(tmp_path / "journal.db"), queue.SimpleQueue[Exception]()
    journal.close()
    notebook = Notebook(journal, History(MemoryStore()), failed=told.put, delay=0.0)
    notebook.note([arrival(1)], {}, NOW)
    assert told.get(timeout=30)
