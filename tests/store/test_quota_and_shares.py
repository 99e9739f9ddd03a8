"""Limits, warnings, expunged mail that comes back, and mailboxes of several people."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from mailguard.delivery.quotamail import quota_mail, warner
from mailguard.state.database import Database, metadata
from mailguard.state.settings import StateSettings
from mailguard.store.account import AccountStore, MailboxExistsError, MailboxNameError
from mailguard.store.keeper import Keeper
from mailguard.store.mailstore import MailStore, Owner
from mailguard.store.quota import Limits, OverQuotaError, Quota
from mailguard.store.snapshot import NewMessage, NoSuchMailboxError

MAIL = b"Subject: one\r\n\r\nbody\r\n"


@pytest.fixture
def stores(tmp_path: Path) -> MailStore:
    return MailStore(tmp_path / "index", "mx")


@pytest.fixture
def ann(stores: MailStore, tmp_path: Path) -> AccountStore:
    info = {"info@o.example": Owner("info@o.example", tmp_path / "info", Limits(messages=2))}
    return stores.open("ann@o.example", tmp_path / "ann", Limits(storage=100, messages=3), info)


def test_a_full_account_takes_no_more(ann: AccountStore) -> None:
    inbox = ann.mailbox("INBOX")
    inbox.append([NewMessage([MAIL])] * 2)
    assert ann.quota() == Quota(44, 100, 2, 3)
    with pytest.raises(OverQuotaError, match=r"44 of 100 octets and 2 of 3 messages"):
        inbox.append([NewMessage([MAIL])] * 2)
    with pytest.raises(OverQuotaError):
        inbox.copy([1, 2], ann.mailbox("Sent"))
    inbox.move([1], ann.mailbox("Sent"))
    assert len(inbox.uids()) == 1
    ann.deliver([MAIL])  # what was accepted is never lost
    assert not ann.quota().holds(1)
    assert Quota(5, 10, 3, 0).percent == 50
    assert Quota(5, 0, 3, 0).percent == 0


def test_what_another_process_took_counts_once_an_account_is_nearly_full(tmp_path: Path) -> None:
    limits, mail = Limits(storage=1_000 * len(MAIL), messages=100), NewMessage([MAIL])
    one, other = (MailStore(tmp_path / "index", "mx").open("a", tmp_path / "a", limits) for _ in range(2))
    other.mailbox("INBOX").append([mail] * 92)
    assert one.has_room(len(MAIL))
    other.mailbox("Sent").append([mail] * 5)
    for _ in range(2):
        other.deliver([MAIL])
    one.deliver([MAIL])
    assert not one.has_room(len(MAIL)) and not other.has_room(len(MAIL))
    with pytest.raises(OverQuotaError):
        one.mailbox("Sent").append([mail])


def test_expunged_mail_comes_back(ann: AccountStore) -> None:
    inbox, sent = ann.mailbox("INBOX"), ann.mailbox("Sent")
    inbox.append([NewMessage([MAIL], ("\\Deleted", "\\Flagged", "$Work"), date=1_000_000_000)])
    sent.append([NewMessage([MAIL])])
    inbox.expunge()
    ann.delete("Sent")
    assert ann.grave is not None
    buried = list(ann.grave.buried())
    assert {each.folder for each in buried} == {"INBOX", ".Sent"}
    assert ann.quota().messages_used == 0
    assert ann.undelete(buried) == 2
    assert inbox.rows(None, ("uid", "flags", "date", "size")) == [(2, "\\Flagged $Work", 1_000_000_000, 22)]
    assert ann.mailbox("Sent").uids() == [1]
    assert ann.mailbox("Sent").status().uid_validity != 0
    inbox.remove([2])
    ann.tidy(now=2e9)
    assert list(ann.grave.buried()) == []


def test_members_see_a_shared_mailbox(ann: AccountStore, stores: MailStore, tmp_path: Path) -> None:
    info = stores.open("info@o.example", tmp_path / "info")
    info.deliver([MAIL])
    names = {each.name: each for each in ann.listing()}
    assert names["Shared/info@o.example"].exists and not names["Shared"].exists
    assert names["Shared/info@o.example/Sent"].special_use == ""
    box = ann.mailbox("Shared/info@o.example")
    assert box.uids() == [1]
    box.copy([1], ann.mailbox("INBOX"))
    assert ann.mailbox("INBOX").rows(None, ("subject",)) == [("one",)]
    ann.create("Shared/info@o.example/Done")
    box.move([1], ann.mailbox("Shared/info@o.example/Done"))
    ann.rename("Shared/info@o.example/Done", "Shared/info@o.example/Old")
    assert info.mailbox("Old").uids() == [1]
    ann.subscribe("Shared/info@o.example/Old")
    assert "Shared/info@o.example/Old" in ann.subscriptions()
    assert (ann.rights("INBOX")[-1], "x" in ann.rights("Shared/info@o.example")) == ("a", False)
    with pytest.raises(MailboxNameError, match="cannot be renamed"):
        ann.rename("Sent", "Shared/info@o.example/Sent2")
    with pytest.raises(MailboxNameError, match="shared"):
        ann.create("Shared/nobody@o.example")
    with pytest.raises(MailboxNameError, match="INBOX"):
        ann.delete("Shared/info@o.example")
    with pytest.raises(OverQuotaError, match="of 2 messages"):
        box.append([NewMessage([MAIL])] * 2)
    stores.open("ann@o.example", tmp_path / "ann")
    with pytest.raises((NoSuchMailboxError, MailboxNameError)):
        ann.mailbox("Shared/info@o.example")


def test_special_uses_follow_their_mailbox(ann: AccountStore) -> None:
    ann.create("Gesendet", "\\Sent")
    uses = {each.name: each.special_use for each in ann.listing()}
    assert (uses["Gesendet"], uses["Sent"], uses["Junk"]) == ("\\Sent", "", "\\Junk")
    ann.rename("Gesendet", "Mine")
    assert {each.name: each.special_use for each in ann.listing()}["Mine"] == "\\Sent"
    with pytest.raises(MailboxExistsError):
        ann.create("Mine")


def test_a_renamed_mailbox_keeps_its_numbers(ann: AccountStore) -> None:
    ann.create("A")
    ann.mailbox("A").append([NewMessage([MAIL])])
    before, rows = ann.mailbox("A").status(), ann.mailbox("A").rows(None, ("uid", "modseq"))
    ann.rename("A", "B")
    assert ann.mailbox("B").status() == before
    assert ann.mailbox("B").rows(None, ("uid", "modseq")) == rows


def test_the_keeper_describes_tidies_and_warns_once(ann: AccountStore, tmp_path: Path) -> None:
    database = Database(StateSettings(), tmp_path)
    metadata.create_all(database.engine)
    for n in range(3):
        (ann.root / "new" / f"170000000{n}.M1P1.x").write_bytes(MAIL)
    warn = warner(database, "mx.o.example", (80, 95))
    keeper = Keeper(lambda: [("ann@o.example", ann)], warn, None)
    keeper.round(threading.Event())
    inbox = ann.mailbox("INBOX")
    assert inbox.describe_some(10) <= 1 and inbox.keep_some(0) == 1  # all but the warning, which came last
    assert ("your mailbox is 100 % full",) in inbox.rows(None, ("subject",))
    keeper.round(threading.Event())
    assert len(inbox.uids()) == 4
    stopped = threading.Event()
    stopped.set()
    keeper.run(stopped)
    database.close()


def test_the_warning_names_both_limits() -> None:
    text = quota_mail("ann@o.example", "mx", Quota(950 << 20, 1000 << 20, 5, 10)).decode()
    assert "Subject: Your mailbox is 95 % full" in text
    assert "950.0 MB of 1,000.0 MB" in text and "5 of 10 messages" in text
