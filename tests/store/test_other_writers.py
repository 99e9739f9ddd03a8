"""What another program does to a Maildir at the worst moment: within one tick of the clock, under our hands."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from mailguard.store.account import AccountStore
from mailguard.store.index import Index
from mailguard.store.mailbox import Mailbox

MAIL = b"Subject: one\r\n\r\nbody\r\n"


@pytest.fixture
def inbox(inbox: Mailbox) -> Mailbox:
    inbox.refresh()
    return inbox


def rename_unseen(mailbox: Mailbox, uid: int, letters: str) -> None:
    """Sets flags as mutt does, and hides it as a coarse clock would."""
    cur = mailbox.path / "cur"
    before = cur.stat().st_mtime_ns
    file = mailbox.file(uid)
    file.rename(file.with_name(file.name.partition(":")[0] + ":2," + letters))
    os.utime(cur, ns=(before, before))


def test_what_we_change_gets_a_time_that_no_tick_gives(inbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = time.time_ns() // 1_000_000 * 1_000_000 + 123_457
    monkeypatch.setattr("mailguard.store.standing.time.time_ns", lambda: odd)
    inbox.store([2], "+", ["\\Seen"])
    assert (inbox.path / "cur").stat().st_mtime_ns == odd


def test_a_folder_that_changed_a_moment_ago_is_marked_before_it_is_read(inbox: Mailbox) -> None:
    cur = inbox.path / "cur"
    (cur / "1700000000.M1P1.mutt:2,").write_bytes(MAIL)
    tick = time.time_ns() // 4_000_000 * 4_000_000
    os.utime(cur, ns=(tick, tick))
    assert inbox.uids() == [1, 2, 3, 4]
    (cur / "1700000001.M1P1.mutt:2,").write_bytes(MAIL)
    os.utime(cur, ns=(tick, tick))  # the same tick
    assert inbox.uids() == [1, 2, 3, 4, 5]


def test_flags_reach_a_message_renamed_under_our_hands(inbox: Mailbox) -> None:
    rename_unseen(inbox, 2, "F")
    result = inbox.store([1, 2, 3], "+", ["\\Seen"])
    assert [(uid, flags) for uid, flags, _ in result.changed] == [(1, "\\Seen"), (2, "\\Flagged \\Seen"), (3, "\\Seen")]
    assert inbox.file(2).name.endswith(":2,FS")


def test_a_message_undeleted_under_our_hands_stays(inbox: Mailbox) -> None:
    inbox.store([1, 2, 3], "+", ["\\Deleted"])
    rename_unseen(inbox, 1, "")
    rename_unseen(inbox, 3, "FT")
    assert inbox.expunge() == [2, 3]
    assert inbox.rows(None, ("uid", "flags")) == [(1, "")]


@pytest.mark.parametrize("act", [Mailbox.copy, Mailbox.move])
def test_a_message_renamed_under_our_hands_is_transferred(
    account: AccountStore, inbox: Mailbox, act: Callable[[Mailbox, Sequence[int], Mailbox], list[tuple[int, int]]]
) -> None:
    rename_unseen(inbox, 2, "F")
    assert act(inbox, [1, 2], account.mailbox("Sent")) == [(1, 1), (2, 2)]
    assert account.mailbox("Sent").rows(None, ("uid", "flags")) == [(1, ""), (2, "\\Flagged")]
    assert inbox.uids() == ([1, 2, 3] if act is Mailbox.copy else [3])


def _open_and_discard(path: Path, rounds: int) -> None:
    index = Index(path)
    for n in range(rounds):
        with index.write() as db:
            db.execute("INSERT OR REPLACE INTO expunged VALUES (?, 1)", (n,))
        if n % 3 == os.getpid() % 3:
            index.discard("a test")
    index.close()


def test_processes_that_discard_the_index_never_split_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    path = tmp_path / "index.db"
    others = [context.Process(target=_open_and_discard, args=(path, 40)) for _ in range(3)]
    for process in others:
        process.start()
    for process in others:
        process.join(60)
    assert [process.exitcode for process in others] == [0, 0, 0]
    with Index(path).read() as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
