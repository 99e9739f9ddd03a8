"""What breaks: full disks, folders that may not be written, half a uidlist, clocks that jump, huge mailboxes."""

from __future__ import annotations

import errno
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailguard.store import maildir, standing
from mailguard.store.account import AccountStore
from mailguard.store.mailbox import Mailbox
from mailguard.store.snapshot import NewMessage
from mailguard.store.uidlist import read_uidlist

MAIL = b"Subject: one\r\n\r\nbody\r\n"


def failing(function: Callable[..., Any], nth: int, number: int = errno.ENOSPC) -> Callable[..., Any]:
    """The function, whose n-th call finds the disk full."""
    counter = [nth]

    def called(*arguments: Any, **named: Any) -> Any:
        counter[0] -= 1
        if counter[0] == 0:
            raise OSError(number, os.strerror(number))
        return function(*arguments, **named)

    return called


@pytest.mark.parametrize("name", ["rename", "open", "write", "fsync", "link"])
@pytest.mark.parametrize("nth", range(1, 9))
def test_a_full_disk_at_any_step_loses_and_doubles_nothing(
    account: AccountStore, inbox: Mailbox, monkeypatch: pytest.MonkeyPatch, name: str, nth: int
) -> None:
    sent = account.mailbox("Sent")
    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing(getattr(os, name), nth))
        added = failed = 0
        for work in (
            lambda: inbox.append([NewMessage([MAIL])] * 2),
            lambda: inbox.copy([1, 2], sent),
            lambda: inbox.move([3], sent),
            lambda: account.deliver([MAIL]),
        ):
            try:
                work()
                added += 1
            except OSError as error:
                assert error.errno == errno.ENOSPC
                failed += 1
    assert failed <= 1
    here, there = inbox.refresh() and inbox.uids(), sent.refresh() and sent.uids()
    full = (3 + 2 - 1 + 1, 2 + 1)
    if not failed:
        assert (len(here), len(there)) == full
    else:
        # All or nothing of the one that failed; an error after the act (an fsync) may leave it done.
        assert (len(here), len(there)) in {full, (3 - 1 + 1, 3), (5, 3 - 2), (6, 2), (5 - 1, 3), (6, 3)}
    for box in (inbox, sent):
        listed = read_uidlist(box.path)
        assert listed is None or not listed.torn
        assert len(set(box.uids())) == len(list((box.path / "cur").iterdir()))
        assert not list((box.path / "tmp").iterdir())


def test_a_uidlist_cut_anywhere_never_gives_a_uid_to_another_message(account: AccountStore, inbox: Mailbox) -> None:
    subjects = {}
    inbox.append([NewMessage([b"Subject: %d\r\n\r\n" % n]) for n in range(5)])
    subjects = dict(inbox.rows(None, ("uid", "subject")))
    validity = inbox.status().uid_validity
    whole = (inbox.path / "dovecot-uidlist").read_bytes()
    for cut in range(0, len(whole), 7):
        (inbox.path / "dovecot-uidlist").write_bytes(whole[:cut])
        status = inbox.status()
        now = dict(inbox.rows(None, ("uid", "subject")))
        if status.uid_validity == validity:
            assert all(subjects.get(uid, subject) == subject for uid, subject in now.items())
            subjects |= now
        else:
            validity, subjects = status.uid_validity, now
        assert sorted(now.values()) == sorted(["one"] * 3 + [str(n) for n in range(5)])
        whole = (inbox.path / "dovecot-uidlist").read_bytes()


def test_a_clock_that_jumps_does_no_harm(inbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    for jump in (10 * 365 * 86_400, -10 * 365 * 86_400, 0):
        monkeypatch.setattr(time, "time", lambda jump=jump: real() + jump)
        before = inbox.uids()
        (uid,) = inbox.append([NewMessage([MAIL])])
        assert uid == before[-1] + 1
        (inbox.path / "new" / f"17.M{uid}P1.x").write_bytes(MAIL)
        assert inbox.uids() == [*before, uid, uid + 1]


def test_a_power_cut_brings_no_modseq_back(account: AccountStore, inbox: Mailbox, tmp_path: Path) -> None:
    saved = tmp_path / "saved.db"
    with sqlite3.connect(tmp_path / "index.db") as source, sqlite3.connect(saved) as target:
        source.backup(target)
    source.close()
    target.close()
    inbox.store([1], "+", ["\\Seen"])
    told = inbox.refresh()
    account.close()
    for file in tmp_path.glob("index.db*"):
        file.unlink()
    saved.rename(tmp_path / "index.db")
    standing.boot_id.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standing, "boot_id", lambda: "another")
        again = AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx").mailbox("INBOX")
        assert again.refresh() > told
        assert [uid for uid, _, _ in again.changes(told).flags] == [1]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(inbox: Mailbox) -> None:
    (inbox.path / "new" / "1.M1P1.x").write_bytes(MAIL)
    (inbox.path / "cur").chmod(0o500)
    with pytest.raises(PermissionError, match="cur"):
        inbox.refresh()
    (inbox.path / "cur").chmod(0o700)


def test_two_files_of_one_base_name_are_two_messages_or_one(inbox: Mailbox) -> None:
    file = inbox.file(2)
    os.link(file, file.with_name(file.name + "F"))  # one message, half renamed
    assert inbox.refresh() and len(inbox.uids()) == 3
    inbox.file(2).with_name(inbox.file(2).name + "R").write_bytes(b"Subject: other\r\n\r\n")
    inbox.refresh()
    assert sorted(subject for (subject,) in inbox.rows(None, ("subject",))) == ["one", "one", "one", "other"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_hundred_thousand_files(tmp_path: Path) -> None:
    root = tmp_path / "mail"
    maildir.create(root)
    for n in range(200_000):
        os.close(os.open(root / "cur" / f"{1_600_000_000 + n}.M1P1.h,S=22,W=22:2,S", os.O_CREAT | os.O_WRONLY))
    account = AccountStore(root, tmp_path / "index.db", host="mx")
    box = account.mailbox("INBOX")
    assert box.status().messages == 200_000
    calls = [0]
    real = os.listdir

    def counted(path: Any) -> list[str]:
        calls[0] += str(path).endswith("cur")
        return real(path)

    # From now on nothing looks through the whole folder: selecting, delivering, flagging.
    os.listdir = counted  # type: ignore[assignment]
    try:
        account.deliver([MAIL])
        highest = box.refresh()
        assert box.status().messages == 200_001
        box.store([7], "+", ["\\Flagged"])
        assert [uid for uid, _, _ in box.changes(highest).flags] == [7]
        assert calls[0] <= 1
    finally:
        os.listdir = real
    assert box.remove([1, 2, 3]) == [1, 2, 3]
    assert len(box.uids()) == 199_998
