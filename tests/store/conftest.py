"""An account of three messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from mailguard.store.account import AccountStore
from mailguard.store.mailbox import Mailbox
from mailguard.store.snapshot import NewMessage


@pytest.fixture
def account(tmp_path: Path) -> AccountStore:
    return AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx")


@pytest.fixture
def inbox(account: AccountStore) -> Mailbox:
    box = account.mailbox("INBOX")
    box.append([NewMessage([b"Subject: one\r\n\r\nbody\r\n"])] * 3)
    return box
