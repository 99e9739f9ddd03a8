"""Mail on real file systems that are full, read-only, or not ours: told clearly, nothing lost, and readable."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailguard.store.account import AccountStore
from mailguard.store.mailbox import Mailbox
from mailguard.store.snapshot import NewMessage
from mailguard.store.textsearch import TextTest

MAIL = b"Subject: %d\r\n\r\nbody of words\r\n"
WORDS = TextTest("words", header=False, body=True)


def _mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True).returncode == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0 or not _mount("-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)):
        pytest.skip("needs the right to mount")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def open_account(folder: Path, log: Any, index: Path | None = None) -> tuple[AccountStore, Mailbox]:
    account = AccountStore(folder / "mail", (index or folder) / "index.db", host="mx", log=log, grace=3600)
    inbox = account.mailbox("INBOX")
    inbox.append([NewMessage([MAIL % number]) for number in range(3)])
    return account, inbox


@contextlib.contextmanager
def full(place: Path) -> Iterator[None]:
    """No room for another octet."""
    for name, size in (("much", 4096), ("rest", 16)):
        with contextlib.suppress(OSError), (place / name).open("wb", buffering=0) as file:
            while file.write(b"x" * size):
                pass
    yield
    for name in ("much", "rest"):
        (place / name).unlink()


def test_a_full_disk_refuses_mail_and_shows_what_is_there(small: Path, log: Any) -> None:
    account, inbox = open_account(small, log)
    account.deliver([MAIL % 3])  # nobody has numbered it when the disk is full
    with full(small):
        for refused in (lambda: account.deliver([MAIL % 4]), lambda: inbox.append([NewMessage([MAIL % 5])])):
            with pytest.raises(OSError, match="No space left") as told:
                refused()
            assert told.value.errno == errno.ENOSPC
        assert inbox.rows(None, ("uid", "subject")) == [(1, "0"), (2, "1"), (3, "2")]
        assert inbox.raw(2) == MAIL % 1
        assert inbox.texts_matching(WORDS, None) == {1, 2, 3}
        inbox.status()
        assert [text for text, _ in log.lines].count(
            "nothing can be written: mail is shown as it was at the last look"
        ) == 1, log.lines  # once, however often somebody looks
        assert log.says("the text of messages cannot be kept")
    assert inbox.refresh() and inbox.rows(None, ("uid", "subject")) == [(1, "0"), (2, "1"), (3, "2"), (4, "3")]
    assert inbox.append([NewMessage([MAIL % 5])]) == [5]
    assert not list((small / "mail" / "tmp").iterdir())
    account.close()


def test_removing_mail_makes_room_on_a_full_disk(small: Path, log: Any) -> None:
    """Though removed mail is kept for a while elsewhere: there it goes for good."""
    account, inbox = open_account(small, log)
    inbox.append([NewMessage([MAIL % 9 + b"x" * 100_000])])
    inbox.store([2], "+", ["\\Deleted"])
    with full(small):
        with contextlib.suppress(sqlite3.OperationalError):  # the index may find no room to say so
            inbox.remove([4])
        account.deliver([MAIL % 5])
        assert log.says("the disk is full: what is removed goes for good", messages=1)
    assert inbox.refresh() and inbox.uids() == [1, 2, 3, 5]
    account.close()


def test_mail_on_a_read_only_disk_is_readable(small: Path, log: Any, tmp_path: Path) -> None:
    account, inbox = open_account(small, log, tmp_path)
    account.deliver([MAIL % 3])
    assert _mount("-o", "remount,ro", str(small))
    inbox.refresh()
    assert inbox.rows(None, ("uid", "subject")) == [(1, "0"), (2, "1"), (3, "2")]
    assert inbox.raw(3) == MAIL % 2
    assert log.says(
        "nothing can be written", error=f"[Errno 30] Read-only file system: '{inbox.path}/dovecot-uidlist.lock'"
    )
    for refused in (lambda: account.deliver([MAIL % 4]), lambda: inbox.store([1], "+", ["\\Seen"])):
        with pytest.raises(OSError, match="Read-only file system"):
            refused()
    assert _mount("-o", "remount,rw", str(small))
    assert inbox.refresh() and inbox.uids() == [1, 2, 3, 4]
    account.close()


def test_mail_that_belongs_to_another_user_is_named(small: Path, log: Any) -> None:
    account, inbox = open_account(small, log)
    (inbox.path / "new" / "1.M1P1.x").write_bytes(MAIL % 3)
    for path in (small, *small.rglob("*")):
        os.chown(path, 65534, 65534)
    os.chown(inbox.path / "cur", 0, 0)
    (inbox.path / "cur").chmod(0o500)
    for folder in small.parents:  # the way there
        if not folder.stat().st_mode & 1:
            folder.chmod(folder.stat().st_mode | 0o711)
    os.seteuid(65534)
    try:
        with pytest.raises(PermissionError, match=f"{inbox.path}/cur"):
            inbox.refresh()
    finally:
        os.seteuid(0)
    account.close()
