"""Mailboxes over Maildirs: UIDs, flags, MODSEQs, folders, other writers, and Dovecot's files."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.store import maildir
from mailguard.store.account import AccountStore, MailboxExistsError, MailboxNameError
from mailguard.store.lock import LockTimeoutError, dot_lock
from mailguard.store.snapshot import ExpungedError, KeywordLimitError, NewMessage, NoSuchMailboxError
from mailguard.store.uidlist import Record, Uidlist, UidlistError, read_uidlist

MAIL = b"Subject: one\r\n\r\nbody\r\n"


def open_store(folder: Path) -> AccountStore:
    return AccountStore(folder / "mail", folder / "index.db", host="mx.example.org")


@pytest.fixture
def account(tmp_path: Path) -> AccountStore:
    return open_store(tmp_path)


def test_delivery_is_seen_numbered_and_read(account: AccountStore) -> None:
    path = Path(account.deliver([MAIL[:10], memoryview(MAIL)[10:]]))
    assert path.parent.name == "new"
    assert re.fullmatch(r"\d+\.M\d{6}P\d+Q\d+\.mx\.example\.org,S=22,W=22", path.name)
    inbox = account.mailbox("inbox")
    assert inbox.rows(None, ("uid", "flags", "size")) == [(1, "", 22)]
    assert inbox.raw(1) == MAIL
    assert inbox.file(1).parent.name == "cur"
    with pytest.raises(ExpungedError):
        inbox.raw(2)


def test_flags_and_keywords_live_in_the_file_name(account: AccountStore) -> None:
    inbox = account.mailbox("INBOX")
    assert inbox.append([NewMessage([MAIL], ("\\Seen", "$Work"), date=1_000_000_000)]) == [1]
    assert inbox.rows(None, ("flags", "date")) == [("\\Seen $Work", 1_000_000_000)]
    assert inbox.file(1).name.endswith(":2,Sa")
    before = inbox.refresh()
    result = inbox.store([1], "+", ["\\Flagged", "$work"])
    assert result.changed == [(1, "\\Flagged \\Seen $Work", before + 1)]
    assert inbox.store([1], "+", ["\\Flagged"]).changed[0][2] == before + 1  # nothing changed, nothing counted
    assert inbox.store([1], "=", ["\\Draft"]).changed == [(1, "\\Draft", before + 2)]
    assert inbox.store([1], "-", ["\\Draft"], unchanged_since=before).modified == [1]
    assert (inbox.path / "dovecot-keywords").read_text() == "0 $Work\n"
    with pytest.raises(KeywordLimitError, match="26 keywords"):
        inbox.store([1], "+", [f"k{n}" for n in range(30)])


def test_expunge_never_gives_a_uid_twice(account: AccountStore) -> None:
    inbox = account.mailbox("INBOX")
    assert inbox.append([NewMessage([MAIL])] * 3) == [1, 2, 3]
    inbox.store([2, 3], "+", ["\\Deleted"])
    before = inbox.refresh()
    assert inbox.expunge([3, 1]) == [3]
    assert inbox.changes(before).vanished == [3]
    assert inbox.append([NewMessage([MAIL])]) == [4]
    assert inbox.expunge() == [2]
    assert inbox.uids() == [1, 4]
    account.deliver([MAIL])
    assert inbox.uids() == [1, 4, 5]


def test_status_counts_and_recent_is_claimed_once(account: AccountStore) -> None:
    inbox = account.mailbox("INBOX")
    inbox.append([NewMessage([MAIL], ("\\Seen",)), NewMessage([MAIL], ("\\Deleted",))])
    status = inbox.status()
    assert (status.messages, status.unseen, status.deleted, status.recent, status.size) == (2, 1, 1, 2, 44)
    assert (status.uid_next, inbox.claim_recent(), inbox.claim_recent()) == (3, 0, 2)


def test_copy_and_move_keep_flags_and_dates(account: AccountStore) -> None:
    inbox, sent = account.mailbox("INBOX"), account.mailbox("Sent")
    inbox.append([NewMessage([MAIL], ("\\Seen", "mine"), date=1_000_000_000)] * 2)
    assert inbox.copy([1, 2, 9], sent) == [(1, 1), (2, 2)]
    assert inbox.move([2], sent) == [(2, 3)]
    assert inbox.uids() == [1]
    assert sent.rows(None, ("flags", "date")) == [("\\Seen mine", 1_000_000_000)] * 3


@pytest.mark.parametrize("uids", [[2, 1, 4], [4, 1, 2], [1, 1, 3], [3, 3], [5, 9], []])
def test_messages_in_any_order_are_those_and_no_others(account: AccountStore, uids: list[int]) -> None:
    inbox = account.mailbox("INBOX")
    inbox.append([NewMessage([MAIL])] * 5)
    wanted = sorted({uid for uid in uids if uid <= 5})
    assert [uid for uid, _, _ in inbox.store(uids, "+", ["\\Flagged"]).changed] == wanted
    assert [uid for (uid,) in inbox.rows(uids, ("uid",))] == wanted
    assert inbox.remove(uids) == wanted
    assert inbox.uids() == [uid for uid in range(1, 6) if uid not in wanted]


def test_another_program_may_rename_deliver_and_delete(account: AccountStore) -> None:
    inbox = account.mailbox("INBOX")
    inbox.append([NewMessage([MAIL])] * 3)
    before = inbox.refresh()
    file = inbox.file(2)
    file.rename(file.with_name(file.name + "S"))
    inbox.file(3).unlink()
    (inbox.path / "new" / "1700000000.M1P1.elsewhere").write_bytes(MAIL)
    changes = inbox.changes(before)
    assert [(uid, flags) for uid, flags, _ in changes.flags] == [(2, "\\Seen"), (4, "")]
    assert changes.vanished == [3]
    assert inbox.raw(2) == MAIL


def test_an_index_may_be_deleted_or_torn_at_any_time(tmp_path: Path) -> None:
    inbox = open_store(tmp_path).mailbox("INBOX")
    inbox.append([NewMessage([MAIL], ("\\Seen",))] * 3)
    inbox.store([2], "+", ["\\Deleted"])
    inbox.expunge()
    status = inbox.status()
    for wreck in (b"", b"not a database" * 1000):
        for file in tmp_path.glob("index.db*"):
            file.unlink()
        (tmp_path / "index.db").write_bytes(wreck)
        again = open_store(tmp_path).mailbox("INBOX").status()
        assert (again.uid_validity, again.uid_next, again.messages) == (status.uid_validity, 4, 2)
        assert again.highest_modseq > status.highest_modseq
        status = again


def test_dovecots_files_are_taken_as_they_stand(tmp_path: Path) -> None:
    root = tmp_path / "mail"
    maildir.create(root)
    base = "1276528487.M364837P9451.host,S=22,W=22"
    (root / "cur" / f"{base}:2,Sab").write_bytes(MAIL)
    (root / "new" / "1276533073.M242911P3632.host").write_bytes(MAIL)
    (root / "dovecot-uidlist").write_text(
        "3 V1275660208 N25022 G3085f01b7f11094c501100008c4a11c1 Xkept\n"
        f"25006 :{base}:2,\n"
        "25017 W22 G0123456789abcdef0123456789abcdef Pold-uidl-17 :1276533073.M242911P3632.host:2,F\n"
    )
    (root / "dovecot-keywords").write_text("0 $Label1\n1 Büro\n")
    (root / "subscriptions").write_text("V\t2\n\nWork\t2026\n")
    account = open_store(tmp_path)
    inbox = account.mailbox("INBOX")
    assert inbox.rows(None, ("uid", "flags", "guid", "uidl")) == [
        (25006, "\\Seen $Label1 Büro", base, ""),
        (25017, "", "0123456789abcdef0123456789abcdef", "old-uidl-17"),
    ]
    assert inbox.status().uid_validity == 1275660208
    assert inbox.append([NewMessage([MAIL])]) == [25022]
    inbox.remove([25006])
    listed = read_uidlist(root)
    assert listed is not None
    assert (listed.extra, listed.next_uid, listed.records[2].uid) == (("Xkept",), 25023, 25022)
    assert listed.records[1].fields == ("W22", "G0123456789abcdef0123456789abcdef", "Pold-uidl-17")
    assert account.subscriptions() == ["Work/2026"]


def test_odd_file_names_and_bare_line_feeds_are_read(account: AccountStore) -> None:
    odd = os.fsdecode(b"1700000000.M1P1.h\xff:2,S")
    (account.root / "cur" / odd).write_bytes(b"Subject: x\n\nbody\r\n")
    inbox = account.mailbox("INBOX")
    assert inbox.rows(None, ("uid", "flags", "size")) == [(1, "\\Seen", 20)]
    assert inbox.raw(1) == b"Subject: x\r\n\r\nbody\r\n"
    assert inbox.store([1], "+", ["\\Flagged"]).changed[0][1] == "\\Flagged \\Seen"


def test_a_vanished_folder_is_named(account: AccountStore) -> None:
    junk = account.mailbox("Junk")
    shutil.rmtree(junk.path)
    with pytest.raises(NoSuchMailboxError, match="Junk"):
        junk.status()


def test_folders(account: AccountStore) -> None:
    assert account.names() == ["INBOX", "Archive", "Drafts", "Junk", "Sent", "Trash"]
    assert account.subscriptions() == ["Drafts", "Sent", "Junk", "Trash", "Archive"]
    account.create("Büro/2026/Rechnungen/")
    assert (account.root / ".B&APw-ro.2026.Rechnungen" / "cur").is_dir()
    account.mailbox("Büro/2026/Rechnungen").append([NewMessage([MAIL])])
    found = {info.name: info for info in account.listing()}
    assert (found["Büro"].exists, found["Büro"].has_children, found["Sent"].special_use) == (False, True, "\\Sent")
    account.create("Büro/2026")
    account.rename("Büro/2026", "Alt")
    assert account.mailbox("Alt/Rechnungen").uids() == [1]
    with pytest.raises(NoSuchMailboxError):
        account.mailbox("Büro/2026")
    with pytest.raises(MailboxExistsError):
        account.rename("Alt", "Sent")
    account.delete("Alt")
    assert account.mailbox("Alt/Rechnungen").uids() == [1]
    for name in ("a.b", "a//b", "x\0", "y" * 300, "~root"):
        with pytest.raises(MailboxNameError):
            account.create(name)
    with pytest.raises(MailboxNameError, match="INBOX"):
        account.delete("inbox")


def test_renaming_the_inbox_moves_its_mail(account: AccountStore) -> None:
    account.deliver([MAIL])
    account.rename("INBOX", "Old")
    assert account.mailbox("INBOX").uids() == []
    assert account.mailbox("Old").uids() == [1]


def test_a_shared_delivery_is_one_file(account: AccountStore) -> None:
    first = account.deliver([MAIL], "Junk")
    second = account.deliver_link(first)
    assert Path(first).samefile(second)
    assert first != second


def test_a_failed_write_leaves_nothing(account: AccountStore) -> None:
    def broken() -> list[bytes]:
        raise OSError(28, "No space left on device")

    class Chunks(list[bytes]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield MAIL
            broken()

    with pytest.raises(OSError, match="space"):
        account.deliver(Chunks([MAIL]))
    assert [list((account.root / name).iterdir()) for name in maildir.FOLDERS] == [[], [], []]


def _append_many(folder: Path, count: int) -> None:
    inbox = open_store(folder).mailbox("INBOX")
    for _ in range(count):
        inbox.append([NewMessage([MAIL])])


def test_several_processes_number_without_gaps_or_doubles(tmp_path: Path, account: AccountStore) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_many, args=(tmp_path, 20)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for _ in range(20):
        account.deliver([MAIL])
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    inbox = account.mailbox("INBOX")
    assert inbox.uids() == list(range(1, 81))
    listed = read_uidlist(inbox.path)
    assert listed is not None and len({r.base for r in listed.records}) == 80


def test_the_dot_lock_is_exclusive_and_a_dead_one_is_broken(tmp_path: Path) -> None:
    with dot_lock(tmp_path), pytest.raises(LockTimeoutError, match="another process"), dot_lock(tmp_path, timeout=0.01):
        pass
    lock = tmp_path / "dovecot-uidlist.lock"
    lock.touch()
    os.utime(lock, (1, 1))
    with dot_lock(tmp_path, timeout=0.5):
        assert lock.exists()
    assert not lock.exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [("2 V1 N2\n", "version"), ("3 N2\n", "header"), ("3 V0 N1\n", "version"), ("", "header"),
     ("3 V1 N9\n5 :a\n4 :b\n", "follows")],
)  # fmt: skip
def test_uidlists_that_cannot_be_read(text: str, problem: str) -> None:
    with pytest.raises(UidlistError, match=problem):
        Uidlist.parse(text)


def test_a_torn_last_line_and_doubles_are_mended() -> None:
    listed = Uidlist.parse("3 V1 N2\n5 :a:2,\n7 :b:2,\n8 :a:2,S\n9 :c\n10")
    assert [(r.uid, r.base) for r in listed.records] == [(7, "b"), (8, "a"), (9, "c")]
    assert listed.next_uid == 10


@given(
    st.dictionaries(st.integers(1, 10_000), st.text("abc.,=:S2", min_size=1, max_size=12).filter(lambda s: s[0] != ":"))
)
def test_lists_read_back_as_written(names: dict[int, str]) -> None:
    records = {
        name.rpartition(":")[0] if ":" in name else name: Record(uid, name) for uid, name in sorted(names.items())
    }
    listed = Uidlist(7, max(names, default=0) + 1, "a" * 32, sorted(records.values(), key=lambda r: r.uid))
    assert Uidlist.parse(listed.render()) == listed


@given(st.text(max_size=60))
def test_names_split_and_join(text: str) -> None:
    base, letters, foreign = maildir.split_name(text)
    if text == f"{base}:2,{''.join(sorted(set(letters)))}{foreign}":
        assert maildir.join_name(base, letters, foreign) == text


def test_old_files_in_tmp_are_purged(account: AccountStore) -> None:
    old, young = account.root / "tmp" / "old", account.root / "tmp" / "young"
    old.touch()
    young.touch()
    os.utime(old, (1, 1))
    assert maildir.purge_tmp(account.root) == 1
    assert young.exists() and not old.exists()


def test_forwarded_is_a_keyword_that_dovecot_knows_too(account: AccountStore) -> None:
    inbox = account.mailbox("INBOX")
    (inbox.path / "cur" / "1700000000.M1P1.x:2,PS").write_bytes(MAIL)
    inbox.append([NewMessage([MAIL], ("$Forwarded",))])
    assert inbox.file(1).name.endswith(":2,PS") and inbox.file(2).name.endswith(":2,a")
    inbox.store([1], "+", ["$Forwarded"])
    assert inbox.rows(None, ("flags",)) == [("$Forwarded \\Seen",), ("$Forwarded",)]
    inbox.store([1, 2], "-", ["$forwarded"])
    assert inbox.rows(None, ("flags",)) == [("\\Seen",), ("",)]


def test_subscriptions_are_written_as_dovecot_does(account: AccountStore) -> None:
    account.subscribe("Büro/2026")
    assert "B&APw-ro\t2026\n" in (account.root / "subscriptions").read_text()
    assert "Büro/2026" in account.subscriptions()
