"""What each member of a shared mailbox has seen: the file it lies in, and what can happen to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mailguard.store.account import AccountStore
from mailguard.store.backup import restore_account, verify_backup, write_backup
from mailguard.store.mailbox import Mailbox
from mailguard.store.seen import SeenError, SeenFile, seen_files, seen_name
from mailguard.store.snapshot import NewMessage

ANN, BOB = "ann@o.example", "bob@o.example"
MAIL = b"Subject: one\r\n\r\nbody\r\n"


def seen(box: Mailbox) -> list[int]:
    """The UIDs of the messages that were seen; the count must agree."""
    box.refresh()
    found = [uid for uid, flags in box.rows(None, ("uid", "flags")) if "\\Seen" in flags]
    status = box.status()
    assert status.unseen == status.messages - len(found)
    assert found == box.roster().chosen(box.roster().flagged(lambda flags: "\\Seen" in flags))
    return found


@pytest.fixture
def ann(account: AccountStore, inbox: Mailbox) -> Mailbox:
    inbox.store([2], "+", ["\\Seen"])
    return account.mailbox("INBOX", ANN)


@pytest.fixture
def bob(account: AccountStore, ann: Mailbox) -> Mailbox:
    return account.mailbox("INBOX", BOB)


def test_a_member_begins_with_what_everybody_has_seen(ann: Mailbox, bob: Mailbox, inbox: Mailbox) -> None:
    assert (seen(ann), seen(bob), seen(inbox)) == ([2], [2], [2])
    ann.store([1], "+", ["\\Seen"])
    ann.store([2], "-", ["\\seen"])
    inbox.store([3], "+", ["\\Seen"])  # from now on that is nothing to them
    assert (seen(ann), seen(bob), seen(inbox)) == ([1], [2], [2, 3])
    assert seen_files(ann.path) == [seen_name(ANN), seen_name(BOB)]


def test_a_line_is_added_for_each_change_and_a_long_file_written_anew(ann: Mailbox, account: AccountStore) -> None:
    seen(ann)
    file = ann.path / seen_name(ANN)
    validity = ann.uid_validity()
    ann.store([1, 3], "+", ["\\Seen"])
    ann.store([2], "-", ["\\Seen"])
    assert file.read_text() == f"1 V{validity}\n+2\n+1,3\n-2\n"
    ann.store([2], "-", ["\\Seen"])
    assert file.read_text().count("\n") == 4
    with file.open("a") as out:
        out.write("+2\n-2\n" * 300)
    assert seen(ann) == [1, 3]
    assert file.read_text() == f"1 V{validity}\n+1,3\n"
    ann.store([2], "+", ["\\Deleted"])
    ann.expunge()
    account.forget_index()
    with file.open("a") as out:
        out.write("-2\n" * 600)
    assert seen(ann) == [1, 3]
    assert file.read_text() == f"1 V{validity}\n+1:3\n"  # there is nothing between the two, nor will there be


def test_a_torn_line_was_told_to_nobody(ann: Mailbox, account: AccountStore) -> None:
    ann.store([1], "+", ["\\Seen"])
    file = ann.path / seen_name(ANN)
    whole = file.read_text()
    file.write_text(whole + "+3")
    assert seen(ann) == [1, 2]
    assert file.read_text() == f"{whole.split(chr(10))[0]}\n+1:2\n"
    ann.store([3], "+", ["\\Seen"])
    account.forget_index()
    assert seen(ann) == [1, 2, 3]


def test_a_file_that_cannot_be_read_or_is_of_other_uids(ann: Mailbox, log: Any) -> None:
    ann.store([1, 3], "+", ["\\Seen"])
    file = ann.path / seen_name(ANN)
    for text in ("nonsense", "1 V7\n+1:3\n", f"1 V{ann.uid_validity()}\n+x\n"):
        log.lines.clear()
        file.write_text(text)
        assert seen(ann) == [2]
        assert log.says("begins anew", member=ANN)
        assert file.read_text() == f"1 V{ann.uid_validity()}\n+2\n"
    with pytest.raises(SeenError, match="UIDVALIDITY is 8"):
        SeenFile(str(file)).read(8, [1])


def test_a_change_from_elsewhere_is_noticed_and_counted(ann: Mailbox, bob: Mailbox) -> None:
    """As from another machine, or by a backup that was put back."""
    assert (seen(ann), seen(bob)) == ([2], [2])
    before = ann.status().highest_modseq
    with (ann.path / seen_name(ANN)).open("a") as file:
        file.write("+3\n-2\n")
    changes = ann.changes(before)
    assert [(uid, flags) for uid, flags, _ in changes.flags] == [(2, ""), (3, "\\Seen")]
    assert bob.changes(before).flags == []
    assert seen(ann) == [3]


def test_a_backup_keeps_it(account: AccountStore, ann: Mailbox, tmp_path: Path) -> None:
    ann.store([1], "+", ["\\Seen"])
    account.create("Done")
    ann.copy([1, 2], account.mailbox("Done", ANN))
    write_backup(account, "info@o.example", tmp_path / "b.tar")
    assert verify_backup(tmp_path / "b.tar") == 5
    restore_account(tmp_path / "b.tar", tmp_path / "back")
    back = AccountStore(tmp_path / "back", tmp_path / "back.db", host="mx")
    assert seen(back.mailbox("INBOX", ANN)) == [1, 2]
    assert seen(back.mailbox("Done", ANN)) == [1, 2]
    back.close()


def test_it_follows_its_mailbox(account: AccountStore, ann: Mailbox) -> None:
    account.create("A")
    box = account.mailbox("A", ANN)
    assert ann.copy([1, 2], box) == [(1, 1), (2, 2)]
    account.rename("A", "B")
    assert seen(account.mailbox("B", ANN)) == [2]
    account.delete("B")
    account.create("B")
    account.mailbox("B").append([NewMessage([MAIL])] * 2)
    assert seen(account.mailbox("B", ANN)) == []
    assert seen(ann) == [2]
