"""An account of three messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mailguard.store.account import AccountStore
from mailguard.store.mailbox import Mailbox
from mailguard.store.snapshot import NewMessage


class Log:
    """Keeps what is said: ``lines`` are texts, each with its facts."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def warning(self, text: str, **facts: Any) -> None:
        self.lines.append((text, facts))

    info = error = warning

    def says(self, part: str, **facts: Any) -> bool:
        """Whether a line holds this part of a text, and these facts."""
        return any(part in text and facts.items() <= told.items() for text, told in self.lines)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def account(tmp_path: Path, log: Log) -> AccountStore:
    return AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx", log=log)


@pytest.fixture
def inbox(account: AccountStore) -> Mailbox:
    box = account.mailbox("INBOX")
    box.append([NewMessage([b"Subject: one\r\n\r\nbody\r\n"])] * 3)
    return box
