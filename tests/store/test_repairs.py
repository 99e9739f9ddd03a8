"""What is mended is named in the log, and mended once; no UID changes its message."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mailguard.store.account import AccountStore
from mailguard.store.lock import LockTimeoutError, dot_lock
from mailguard.store.mailbox import Mailbox
from mailguard.store.snapshot import NewMessage, NoSuchMailboxError
from mailguard.store.survey import survey
from mailguard.store.textsearch import TextTest

MAIL = b"Subject: one\r\n\r\nbody\r\n"
TORN = TextTest("body", header=False, body=True)


def uidlist(box: Mailbox) -> Path:
    return box.path / "dovecot-uidlist"


def test_a_torn_uidlist(inbox: Mailbox, log: Any) -> None:
    whole = uidlist(inbox).read_bytes()
    uidlist(inbox).write_bytes(whole[:-9])
    assert inbox.uids() == [1, 2, 3]  # the index knew the third, whose name was cut
    assert log.says("dovecot-uidlist was torn", mailbox="INBOX", next_uid=4, taken_from_index=1)
    assert uidlist(inbox).read_bytes().splitlines()[1:] == whole.splitlines()[1:]
    log.lines.clear()
    inbox.append([NewMessage([MAIL])])
    assert inbox.uids() == [1, 2, 3, 4] and not log.lines


def test_a_torn_uidlist_without_an_index(account: AccountStore, inbox: Mailbox, log: Any) -> None:
    account.forget_index()
    uidlist(inbox).write_bytes(uidlist(inbox).read_bytes()[:-9])
    assert inbox.uids() == [1, 2, 4]  # the third had no name any more: it is another message from now on
    assert log.says("dovecot-uidlist was torn", mailbox="INBOX", next_uid=4, taken_from_index=0)


@pytest.mark.parametrize("text", [b"\0\0\0", b"", b"3 V17000", b"3 V1700000000 N4 Gab\n2 :a\n1 :b\n", None])
def test_a_uidlist_that_cannot_be_read_or_is_gone(inbox: Mailbox, log: Any, text: bytes | None) -> None:
    """What the index knows keeps its UID; what others numbered since may have had the next ones."""
    whole, before = uidlist(inbox).read_text(), inbox.status()
    rows = inbox.rows(None, ("uid", "flags", "modseq", "guid", "uidl", "subject"))
    (inbox.path / "cur/1700000000.M1P1.x:2,").write_bytes(b"Subject: theirs\r\n\r\n")
    if text is None:
        uidlist(inbox).unlink()
    else:
        uidlist(inbox).write_bytes(text)
    assert inbox.uids() == [1, 2, 3, 1_000_004]
    after = inbox.status()
    assert (after.uid_validity, after.mailbox_id) == (before.uid_validity, before.mailbox_id)
    assert inbox.rows([1, 2, 3], ("uid", "flags", "modseq", "guid", "uidl", "subject")) == rows
    assert log.says("dovecot-uidlist cannot be read" if text is not None else "dovecot-uidlist is gone", uids=3)
    assert uidlist(inbox).read_text().splitlines()[1:4] == whole.splitlines()[1:]


def test_what_dovecot_had_said_of_a_message_is_not_lost_with_the_uidlist(tmp_path: Path, log: Any) -> None:
    account = AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx", log=log)
    inbox = account.mailbox("INBOX")
    names = ["1700000000.M1P1.x,S=9:2,S", "1700000001.M1P1.x:2,"]
    for name in names:
        (inbox.path / "cur" / name).write_bytes(b"Subject: a\n\n")
    lines = [f"7 W14 Gabc P9.x :{names[0]}", f"9 :{names[1]}"]
    uidlist(inbox).write_text("\n".join(["3 V1700000000 N12 Gdef", *lines, ""]))
    asked = ("uid", "flags", "size", "guid", "uidl")
    rows = inbox.rows(None, asked)
    uidlist(inbox).write_bytes(b"")
    inbox.refresh()
    assert inbox.rows(None, asked) == rows
    head, *rest = uidlist(inbox).read_text().splitlines()
    assert head == "3 V1700000000 N1000012 Gdef" and rest[0] == lines[0] and rest[1].startswith("9 ")


def test_a_uidlist_of_which_nobody_knows_anything(account: AccountStore, inbox: Mailbox, log: Any) -> None:
    before = inbox.status().uid_validity
    uidlist(inbox).write_bytes(b"\0\0\0")
    account.forget_index()
    assert inbox.status().uid_validity > before and inbox.uids() == [1, 2, 3]
    assert log.says("dovecot-uidlist cannot be read and is made anew")
    before = inbox.status().uid_validity
    uidlist(inbox).unlink()
    for n, file in enumerate(list((inbox.path / "cur").iterdir())):  # other mail in the same folder
        file.rename(file.with_name(f"170000000{n}.M1P1.other:2,"))
    assert inbox.status().uid_validity > before
    assert log.says("dovecot-uidlist is gone and is made anew") and log.says("another UIDVALIDITY", before=before)


def test_a_uidlist_put_back_from_a_backup(inbox: Mailbox, log: Any) -> None:
    old = uidlist(inbox).read_bytes()
    assert inbox.append([NewMessage([b"Subject: four\r\n\r\n"])]) == [4]
    inbox.remove([4])
    uidlist(inbox).write_bytes(old)
    assert inbox.append([NewMessage([MAIL])]) == [5]
    assert log.says("dovecot-uidlist is older than what was told")


def test_a_torn_index(account: AccountStore, inbox: Mailbox, log: Any, tmp_path: Path) -> None:
    inbox.store([2], "+", ["\\Seen", "$Work"])
    before = inbox.rows(None, ("uid", "flags"))
    account.close()
    for name in ("index.db-wal", "index.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    data = bytearray((tmp_path / "index.db").read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    (tmp_path / "index.db").write_bytes(data)
    assert inbox.uids() == [1, 2, 3]
    assert inbox.rows(None, ("uid", "flags")) == before
    assert log.says("the index is torn and made anew")


def test_the_index_of_another_version_is_not_called_torn(
    account: AccountStore, inbox: Mailbox, log: Any, tmp_path: Path
) -> None:
    account.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "index.db")) as db:
        db.execute("PRAGMA user_version=1")
    assert inbox.uids() == [1, 2, 3]
    assert [text for text, _ in log.lines] == ["the index is that of another version of mailguard and made anew"]


def test_kept_text_that_is_cut_off(inbox: Mailbox, log: Any, tmp_path: Path) -> None:
    assert inbox.texts_matching(TORN, None) == {1, 2, 3}
    (text,) = tmp_path.glob("index.db.text-*")
    os.truncate(text, 5)
    assert inbox.texts_matching(TORN, None) == {1, 2, 3}
    assert log.says("the kept text of messages is cut off")


def test_a_lock_left_by_a_dead_process(inbox: Mailbox, log: Any) -> None:
    lock = inbox.path / "dovecot-uidlist.lock"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    holder = f"{dead.pid}:{socket.gethostname()}"
    lock.write_text(holder)
    assert inbox.append([NewMessage([MAIL])]) == [4]
    assert log.says("a lock that a dead process left", lock=str(lock), holder=holder)
    assert not lock.exists()


@pytest.mark.parametrize("age", [-7200, 121, 7200])
def test_a_lock_of_another_machine_ends_some_time(inbox: Mailbox, log: Any, age: int) -> None:
    """An age below zero is one from before the clock was put back."""
    lock = inbox.path / "dovecot-uidlist.lock"
    lock.write_text("1:elsewhere")
    with pytest.raises(LockTimeoutError, match=r"uidlist\.lock is held"), dot_lock(str(inbox.path), timeout=0.01):
        pass
    os.utime(lock, (time.time() - age,) * 2)
    assert inbox.append([NewMessage([MAIL])]) == [4]
    assert log.says("a lock that a dead process left")


def test_a_vanished_folder_comes_back_empty_under_another_uidvalidity(account: AccountStore, log: Any) -> None:
    junk = account.mailbox("Junk")
    assert junk.append([NewMessage([MAIL])]) == [1]
    before = junk.status()
    shutil.rmtree(junk.path)
    for look in (junk.status, junk.uids, lambda: junk.append([NewMessage([MAIL])])):
        with pytest.raises(NoSuchMailboxError, match=r"folder of mailbox 'Junk' is gone: .*/\.Junk"):
            look()
    account.deliver([MAIL], "Junk")  # a delivery makes it
    status = account.mailbox("Junk").status()
    assert (status.messages, status.uid_validity > before.uid_validity) == (1, True)
    assert log.says("another UIDVALIDITY", mailbox="Junk")


def test_folders_whose_names_cannot_be_read_are_told_of(account: AccountStore, log: Any) -> None:
    before = account.names()
    for name in (b".B\xfcro", b".a&b", b".x..y", b".~root"):
        (account.root / os.fsdecode(name) / "cur").mkdir(parents=True)
        faults = survey(account.root).faults
        assert any(os.fsdecode(name) in fault and "rename it" in fault for fault in faults), faults
    for _ in range(2):
        assert account.names() == before
    assert [text for text, _ in log.lines] == [
        "the name of a folder cannot be read, its mail is not shown: rename it"
    ] * 4  # each once


ODD = [
    b"1700000000.M1P1.h\nx:2,S", b"1700000001.M1P1.h\r:2,S", b" lead, space:2,S", b"12 :x:2,S", b"12 W4 :x", b"plain",
    b"7", b"a:1,experimental", b"b:2,S:2,F", b":2,S", b"c:", b"\xff\xfe:2,S", "ü\u2028\x85x:2,".encode(), b"h\t\x1c:2,",
    b"f:2,SS", b"g:2,Sab,foreign", b"x" * 240 + b":2,S", b"y" * 255, b"z" * 252 + b":2,",
    "k:2,S,ü".encode(), b"l:2,S,\xff",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD, ids=lambda name: repr(name[:24]))
@pytest.mark.parametrize("folder", ["cur", "new"])
def test_odd_names_keep_their_uids(tmp_path: Path, log: Any, name: bytes, folder: str) -> None:
    """Whatever another program calls its files: each stays one message, whatever becomes of its flags and the index."""
    account = AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx", log=log)
    for n, each in enumerate((name, b"0" + name[:254])):
        (account.root / folder / os.fsdecode(each)).write_bytes(b"Subject: %d\r\n\r\n" % n)
    inbox = account.mailbox("INBOX")
    before = dict(inbox.rows(None, ("uid", "subject")))
    assert sorted(before.values()) == ["0", "1"]
    for mode, flags in (("=", ["\\Flagged", "\\Answered", "$Work"]), ("-", ["$Work"])):
        assert [uid for uid, _, _ in inbox.store([1, 2], mode, flags).changed] == [1, 2]
        assert sorted(inbox.files().values()) == sorted(map(str, (account.root / "cur").iterdir()))
        account.close()
        for file in tmp_path.glob("index.db*"):
            file.unlink()
        account = AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx", log=log)
        inbox = account.mailbox("INBOX")
        assert dict(inbox.rows(None, ("uid", "subject"))) == before
        assert {flags for (flags,) in inbox.rows(None, ("flags",))} <= {
            "\\Flagged \\Answered $Work", "\\Flagged \\Answered"
        }  # fmt: skip
    if b"\n" in name or len(name) > 239 or name.startswith(b":"):
        assert log.says("gets another name")
