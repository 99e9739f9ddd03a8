"""Descriptions on their way into the index."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mailguard.store.account import AccountStore
from mailguard.store.announcer import Announcer
from mailguard.store.index import Index

MAIL = b"From: ann@example.org\r\nSubject: %d\r\n\r\nbody\r\n"


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, text: str, **_: Any) -> None:
        self.lines.append(text)


def arrivals(account: AccountStore) -> list[str]:
    with account._index.read() as db:
        return [base for (base,) in db.execute("SELECT base FROM arrival ORDER BY base")]


def wait_until_written(announcer: Announcer) -> None:
    until = time.monotonic() + 30
    while announcer._running:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_came_is_written_together_and_claimed_by_the_reader(tmp_path: Path) -> None:
    announcer = Announcer(delay=0.2)
    account = AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx", announcer=announcer)
    before = account._index.version()
    names = sorted(Path(account.deliver([MAIL % number])).name for number in range(5))
    assert account._index.version() == before and arrivals(account) == []
    wait_until_written(announcer)
    assert arrivals(account) == names
    inbox = account.mailbox("INBOX")
    inbox.refresh()
    assert arrivals(account) == []
    with account._index.read() as db:
        assert db.execute("SELECT count(*) FROM message WHERE cid = 0").fetchone() == (0,)
    account.close()


def test_a_reader_who_was_quicker_leaves_nothing_behind(tmp_path: Path) -> None:
    announcer = Announcer(delay=0.2)
    account = AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx", announcer=announcer)
    account.deliver([MAIL % 1])
    assert account.mailbox("INBOX").rows(None, ("uid", "subject")) == [(1, "1")]
    wait_until_written(announcer)
    assert arrivals(account) == []
    with account._index.read() as db:
        assert db.execute("SELECT count(*) FROM loose").fetchone() == (1,)
    account.close()


def test_an_index_that_cannot_be_written_is_told_of_and_loses_no_message(tmp_path: Path) -> None:
    log = Log()
    (tmp_path / "file").write_bytes(b"")
    account = AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx")
    path = Path(account.deliver([MAIL % 1]))
    Announcer(log).add(Index(tmp_path / "file" / "index.db"), str(path))
    assert log.lines == ["the index did not take messages, their first reader will"]
    assert path.read_bytes() == MAIL % 1
    account.close()
