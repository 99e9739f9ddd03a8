"""The change bell: who is told, when, and by whom."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailguard.store import maildir
from mailguard.store.account import AccountStore
from mailguard.store.snapshot import NewMessage
from mailguard.store.watch import Bell

PATIENCE = 10


class Ear:
    """Counts rings; ``heard`` waits for the next one."""

    def __init__(self) -> None:
        self._rung = threading.Event()

    def __call__(self) -> None:
        self._rung.set()

    def heard(self, timeout: float = PATIENCE) -> bool:
        return self._rung.wait(timeout) and (self._rung.clear() is None)


@pytest.fixture(params=[True, False], ids=["kernel", "polling"])
def bell(request: pytest.FixtureRequest) -> Iterator[Bell]:
    made = Bell(kernel=request.param, poll=0.02)
    yield made
    made.close()


def test_changes_by_another_process_ring(bell: Bell, tmp_path: Path) -> None:
    maildir.create(tmp_path)
    ear = Ear()
    bell.register(tmp_path, ear)
    program = "import sys; open(sys.argv[1], 'w').close()"
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "new" / "1.M1P1.x")], check=True)
    assert ear.heard()
    (tmp_path / "new" / "1.M1P1.x").rename(tmp_path / "cur" / "1.M1P1.x:2,")
    assert ear.heard()
    shutil.rmtree(tmp_path / "cur")
    assert ear.heard()


def test_a_closed_registration_hears_nothing_and_others_go_on(bell: Bell, tmp_path: Path) -> None:
    maildir.create(tmp_path)
    first, second = Ear(), Ear()
    closed = bell.register(tmp_path, first)
    bell.register(tmp_path, second)
    closed.close()
    closed.close()
    (tmp_path / "new" / "a").touch()
    assert second.heard()
    assert not first.heard(0)


def test_own_changes_ring_at_once(tmp_path: Path) -> None:
    bell = Bell(kernel=False, poll=3600)
    account = AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx", bell=bell)
    inbox, ear = account.mailbox("INBOX"), Ear()
    registration = inbox.listen(ear)
    account.deliver([b"Subject: x\r\n\r\n"])
    assert ear.heard(0)
    inbox.append([NewMessage([b"Subject: x\r\n\r\n"])])
    assert ear.heard(0)
    inbox.store([1], "+", ["\\Seen"])
    assert ear.heard(0)
    inbox.remove([1])
    assert ear.heard(0)
    registration.close()
    account.deliver([b"Subject: x\r\n\r\n"])
    assert not ear.heard(0)
    bell.close()


def test_a_missing_folder_is_polled_until_it_comes(tmp_path: Path) -> None:
    bell, ear = Bell(poll=0.02), Ear()
    bell.register(tmp_path / "later", ear)
    maildir.create(tmp_path / "later")
    assert ear.heard()
    bell.close()


def test_closing_without_a_listener_is_fine() -> None:
    Bell().close()
