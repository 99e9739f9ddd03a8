"""SIGKILL before and amid every step of what happens seldom: undelete, deleted mailboxes, a new uidlist, housekeeping,
import, backup and restore. What was told stays true, and the same command ends the work."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_store_crash as crash

from mailguard.model.foreign import Foreign
from mailguard.store.account import AccountStore
from mailguard.store.backup import restore_account, verify_backup, write_backup
from mailguard.store.ledger import Ledger
from mailguard.store.maildir import is_maildir
from mailguard.store.snapshot import NewMessage

IMPORTED = [Foreign(str(number), crash.mail(number), ("\\Seen",), 1_000_000_000.0) for number in (20, 21, 22)]


def script(account: AccountStore, tell: Callable[[str, Any], None]) -> None:
    """Runs on an account of messages 1 to 3, and a Sent with many gone ones in its uidlist."""
    inbox, sent, folder = account.mailbox("INBOX"), account.mailbox("Sent"), account.root.parent
    assert account.grave is not None
    inbox.remove([1])
    account.undelete(list(account.grave.buried()))
    tell("uids", [uid for (uid,) in inbox.rows(None, ("uid",))])
    sent.append([NewMessage([crash.mail(10)])])
    sent.remove(sent.uids())  # writes its uidlist anew
    tell("sent", sent.status().uid_next)
    account.create("Work")
    account.mailbox("Work").append([NewMessage([crash.mail(11)])])
    tell("there", 11)
    account.rename("Work", "Old")
    account.subscribe("Old")
    account.delete("Old")
    inbox.keep_some(10)
    account.tidy()
    ledger = Ledger(folder / "ledger")
    ledger.add(account, "In", iter(IMPORTED), lambda: None)
    ledger.close()
    tell("imported", [20, 21, 22])
    write_backup(account, "x", folder / "backup.tar")
    tell("backup", None)
    restore_account(folder / "backup.tar", folder / "restored")
    tell("end", None)


def numbers(account: AccountStore) -> list[int]:
    """All messages wherever they are, in mailboxes or removed and not forgotten."""
    found = []
    for name in account.names():
        found += [int(subject) for (subject,) in account.mailbox(name).rows(None, ("subject",))]
    assert account.grave is not None
    return found + [crash_number(each.path) for each in account.grave.buried()]


def crash_number(path: Path) -> int:
    return int(path.read_bytes().split(b"\r\n", 1)[0].split()[1])


def check(folder: Path, told: dict[str, Any]) -> None:
    account = crash.open_account(folder)
    found = numbers(account)
    wanted = {1, 2, 3, *([11] if "there" in told else []), *told.get("imported", [])}
    assert wanted <= set(found) <= {1, 2, 3, 10, 11, 12, 20, 21, 22}
    assert len(found) == len(set(found)), "a message is there twice"
    (uid,) = account.mailbox("INBOX").append([NewMessage([crash.mail(99)])])
    assert uid > max(told.get("uids", [3]))
    assert account.mailbox("Sent").status().uid_next >= told.get("sent", 1)
    account.subscriptions()
    ledger = Ledger(folder / "ledger")  # the same command again brings the rest, and nothing twice
    fresh = (message for message in IMPORTED if message.id not in ledger.done)
    ledger.add(account, "In", fresh, lambda: None)
    ledger.close()
    assert sorted(number for number in numbers(account) if 20 <= number < 30) == [20, 21, 22]
    if (folder / "backup.tar").exists():
        assert verify_backup(folder / "backup.tar") >= 6
    else:
        assert "backup" not in told
    if is_maildir(folder / "restored"):  # all of it or nothing
        again = AccountStore(folder / "restored", folder / "restored.db", host="mx")
        assert sum(again.mailbox(name).status().messages for name in again.names()) == verify_backup(
            folder / "backup.tar"
        )
        again.close()
    else:
        assert "end" not in told
    account.close()


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("before")
    account = crash.open_account(folder)
    account.mailbox("INBOX").append([NewMessage([crash.mail(number)]) for number in (1, 2, 3)])
    sent = account.mailbox("Sent")
    sent.append([NewMessage([crash.mail(12)])])
    listed = sent.path / "dovecot-uidlist"
    lines = "".join(f"{uid} :17.M{uid}P1.gone\n" for uid in range(2, 210))
    listed.write_text(listed.read_text() + lines)
    account.close()
    for file in folder.glob("index.db*"):
        file.unlink()
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("torn", [False, True], ids=["before", "amid"])
def test_kill_at_every_rare_step(before: Path, tmp_path: Path, torn: bool) -> None:
    for count in range(1, 2000):
        folder = tmp_path / str(count)
        shutil.copytree(before, folder)
        told = dict(crash.killed_at(folder, count, script, torn=torn))
        check(folder, told)
        shutil.rmtree(folder)
        if "end" in told:
            break
    assert 150 < count < 1999
