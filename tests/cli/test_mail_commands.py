"""Commands on people's mail: adopt, import, export, index, backup, restore, undelete."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from mailguard.cli.main import run
from mailguard.store import maildir
from mailguard.store.account import AccountStore
from mailguard.store.ledger import Ledger
from mailguard.store.snapshot import NewMessage

ONE = b"Subject: one\r\n\r\nFrom here\r\n>From there\r\n"
TWO = b"From: b@x\r\nSubject: two\r\n\r\nbody\r\n"


class Office:
    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys
        (folder / "mailguard.toml").write_text(
            'hostname = "mx.o.example"\ndata_dir = "data"\naccounts = "accounts.toml"\n'
        )
        (folder / "accounts.toml").write_text(
            '[[domain]]\nname = "o.example"\n[[account]]\naddress = "ann@o.example"\n'
            '[[account]]\naddress = "bob@o.example"\nquota_messages = 2\n'
        )

    def run(self, *arguments: str | Path) -> tuple[int, str]:
        code = run([*map(str, arguments), "-c", str(self.folder / "mailguard.toml")])
        told = self._capsys.readouterr()
        return code, told.out + told.err

    def store(self, who: str = "ann") -> AccountStore:
        data = self.folder / "data"
        return AccountStore(data / "mail" / "o.example" / who, data / "index" / f"{who}@o.example.db", grace=1)


@pytest.fixture
def office(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Office:
    return Office(tmp_path, capsys)


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    root = tmp_path / "old"
    maildir.create(root)
    maildir.create(root / ".Work.2026")
    (root / "cur" / "1700000000.M1P1.h,S=40,W=99:2,Sa").write_bytes(ONE)
    (root / "new" / "1700000001.M1P1.h").write_bytes(TWO)
    (root / ".Work.2026" / "cur" / "1700000002.M1P1.h:2,F").write_bytes(TWO.replace(b"\r\n", b"\n"))
    os.utime(root / "cur" / "1700000000.M1P1.h,S=40,W=99:2,Sa", (1_700_000_000, 1_700_000_000))
    (root / "dovecot-uidlist").write_text(
        "3 V77 N9 G3085f01b7f11094c501100008c4a11c1\n7 :1700000000.M1P1.h,S=40,W=99:2,\n"
    )
    (root / "dovecot-keywords").write_text("0 $Label1\n")
    (root / "subscriptions").write_text("V\t2\n\nWork\t2026\n")
    return root


def test_adopt_in_place(office: Office, foreign: Path) -> None:
    code, told = office.run("adopt", foreign)
    assert code == 0 and "wrong size" in told and "nothing stands in the way" in told
    assert not (office.folder / "data").exists()
    code, told = office.run("adopt", foreign, "ann@o.example")
    assert (code, "adopted 3 messages in 2 mailboxes" in told) == (0, True), told
    store = office.store()
    inbox = store.mailbox("INBOX")
    # All of it was read: the size that the name states wrongly is right already, and words can be searched.
    assert inbox.rows(None, ("uid", "flags", "size")) == [(7, "\\Seen $Label1", len(ONE)), (9, "", len(TWO))]
    assert (inbox.describe_some(1), inbox.keep_some(1)) == (0, 0)
    assert inbox.rows(None, ("uid", "subject", "size")) == [(7, "one", len(ONE)), (9, "two", len(TWO))]
    assert (inbox.status().uid_validity, store.subscriptions()) == (77, ["Work/2026"])
    store.close()
    assert office.run("adopt", foreign, "ann@o.example")[0] == 0  # again: nothing to do
    assert office.run("index", "verify")[1] == "the index says what the files say\n"
    code, told = office.run("adopt", foreign, "nobody@o.example")
    assert (code, "no account nobody@o.example" in told) == (1, True)


def test_adopting_by_an_account_that_was_looked_at_before(office: Office, foreign: Path) -> None:
    """No warning of a UIDVALIDITY that nobody has used, and folders by the names that clients see."""
    with contextlib.closing(office.store()) as store:
        assert store.mailbox("INBOX").uids() == []
    maildir.create(foreign / ".B&APw-ro")
    code, told = office.run("adopt", foreign, "ann@o.example")
    assert (code, "Büro" in told, "Work/2026" in told, "UIDVALIDITY" in told) == (0, True, True, False), told
    with contextlib.closing(office.store()) as store:
        assert len(store.mailbox("INBOX").uids()) == 2


def test_what_cannot_be_adopted_is_told(office: Office, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is no Maildir" in office.run("adopt", tmp_path / "empty")[1]
    (tmp_path / "box" / "mailboxes").mkdir(parents=True)
    assert "dbox" in office.run("adopt", tmp_path / "box")[1]
    maildir.create(tmp_path / "fs")
    maildir.create(tmp_path / "fs" / "Sent")
    assert "LAYOUT=fs" in office.run("adopt", tmp_path / "fs")[1]
    maildir.create(tmp_path / "packed")
    (tmp_path / "packed" / "cur" / "1.M1P1.h:2,z").write_bytes(b"\x1f\x8b\x08rest")
    code, told = office.run("adopt", tmp_path / "packed")
    assert code == 1 and "packed (gzip)" in told and "letters without a name" in told
    maildir.create(office.folder / "data" / "mail" / "o.example" / "ann")
    (office.folder / "data" / "mail" / "o.example" / "ann" / "cur" / "1:2,").write_bytes(ONE)
    maildir.create(tmp_path / "good")
    assert "holds mail already" in office.run("adopt", tmp_path / "good", "ann@o.example")[1]


def test_an_import_that_is_stopped_says_how_to_go_on(
    office: Office, foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Ledger.add

    def stopped(*arguments: Any) -> int:
        whole(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Ledger, "add", stopped)
    code, told = office.run("import", "maildir", foreign, "ann@o.example", "--map", "Work/2026=Old")
    assert code == 1 and "stopped: 2 messages are here, start the same command again" in told
    monkeypatch.undo()
    assert office.run("import", "maildir", foreign, "ann@o.example", "--map", "Work/2026=Old")[0] == 0
    store = office.store()
    assert [len(store.mailbox(name).uids()) for name in ("INBOX", "Old")] == [2, 1]
    store.close()


def test_import_of_a_maildir_goes_on_where_it_was(office: Office, foreign: Path) -> None:
    code, told = office.run("import", "maildir", foreign, "ann@o.example", "--map", "Work/2026=Old")
    assert code == 0, told
    store = office.store()
    assert store.mailbox("Old").rows(None, ("uid", "flags", "size")) == [(1, "\\Flagged", len(TWO))]
    assert store.mailbox("INBOX").rows([1], ("flags", "date")) == [("\\Seen $Label1", 1_700_000_000)]
    (foreign / "new" / "1700000009.M1P1.h").write_bytes(ONE + b"more")
    assert office.run("import", "maildir", foreign, "ann@o.example", "--map", "Work/2026=Old")[0] == 0
    assert len(store.mailbox("INBOX").uids()) == 3
    store.close()
    code, told = office.run("import", "maildir", foreign, "bob@o.example")
    assert code == 1 and "the account is full" in told and "same command" in told
    assert office.run("import", "maildir", foreign, "ann@o.example", "--map", "x")[0] == 2


def test_mbox_there_and_back(office: Office, tmp_path: Path) -> None:
    store = office.store()
    inbox = store.mailbox("INBOX")
    inbox.append([NewMessage([ONE], ("\\Seen", "\\Flagged", "$Work"), 1_000_000_000), NewMessage([TWO])])
    store.close()
    code, told = office.run("export", "ann@o.example", tmp_path / "out", "--format", "mbox")
    assert (code, told.split(":")[0]) == (0, "2 messages")
    text = (tmp_path / "out" / "INBOX.mbox").read_bytes()
    assert b"\n>From here\n>>From there\n" in text and b"X-Keywords: $Work\n" in text
    code, told = office.run("import", "mbox", tmp_path / "out" / "INBOX.mbox", "ann@o.example", "--mailbox", "Back")
    assert code == 0, told
    assert office.run("import", "mbox", tmp_path / "out" / "INBOX.mbox", "ann@o.example", "--mailbox", "Back")[0] == 0
    back = office.store().mailbox("Back")
    assert back.rows(None, ("flags", "date"))[0] == ("\\Flagged \\Seen $Work", 1_000_000_000)
    assert [back.raw(uid) for uid in back.uids()] == [ONE, TWO]


def test_export_as_maildir_is_complete(office: Office, tmp_path: Path) -> None:
    store = office.store()
    store.mailbox("INBOX").append([NewMessage([ONE], ("$Work",))])
    store.mailbox("Sent").append([NewMessage([TWO])])
    assert office.run("export", "ann@o.example", tmp_path / "out")[0] == 0
    out = AccountStore(tmp_path / "out", tmp_path / "out.db")
    for name in store.names():
        here, there = store.mailbox(name), out.mailbox(name)
        assert here.rows(None, ("uid", "flags", "date")) == there.rows(None, ("uid", "flags", "date"))
        if here.uids():
            assert here.status().uid_validity == there.status().uid_validity
    assert out.subscriptions() == store.subscriptions()
    assert "exists already" in office.run("export", "ann@o.example", tmp_path / "out")[1]
    assert not list((store.root / "tmp").iterdir())


def test_a_mailbox_that_is_not_there_is_no_empty_one(office: Office, foreign: Path, tmp_path: Path) -> None:
    office.run("adopt", foreign, "ann@o.example")
    out, file = tmp_path / "out", tmp_path / "backup.tar"
    code, told = office.run("export", "ann@o.example", out, "--format", "mbox", "--mailbox", "Werk")
    assert (code, "there is no mailbox Werk; there are INBOX" in told) == (1, True), told
    code, told = office.run("export", "ann@o.example", out, "--mailbox", "INBOX")
    assert (code, "a Maildir is exported whole" in told) == (2, True), told
    assert not out.exists()
    office.run("backup", "ann@o.example", file)
    code, told = office.run("restore", file, "ann@o.example", "--mailbox", "Werk")
    assert (code, "holds no mailbox of that name" in told) == (1, True), told
    with contextlib.closing(office.store()) as store:
        assert "Restored/Werk" not in store.names()


def test_backup_and_restore(office: Office, tmp_path: Path) -> None:
    store = office.store()
    inbox = store.mailbox("INBOX")
    inbox.append([NewMessage([ONE], ("$Work",), 1_000_000_000)] * 3)
    inbox.remove([2])
    store.mailbox("Sent").append([NewMessage([TWO])])
    before, status = inbox.rows(None, ("uid", "flags", "date")), inbox.status()
    file = tmp_path / "ann.tar.gz"
    code, told = office.run("backup", "ann@o.example", file)
    assert code == 0 and told.startswith("3 messages in 6 mailboxes, verified"), told
    assert "holds mail" in office.run("restore", file, "ann@o.example")[1]
    code, told = office.run("restore", file, "ann@o.example", "--mailbox", "INBOX")
    assert (code, told) == (0, "2 messages\n"), told
    assert store.mailbox("Restored/INBOX").rows(None, ("flags", "date")) == [("$Work", 1_000_000_000)] * 2
    store.close()
    (tmp_path / "data" / "mail").rename(tmp_path / "lost")
    code, told = office.run("restore", file, "ann@o.example")
    assert (code, told) == (0, "3 messages, verified\n"), told
    again = office.store().mailbox("INBOX")
    assert again.rows(None, ("uid", "flags", "date")) == before
    assert again.status().uid_validity == status.uid_validity
    assert again.append([NewMessage([TWO])]) == [status.uid_next + 1_000_000]
    assert again.status().highest_modseq > status.highest_modseq


def test_a_damaged_backup_is_noticed(office: Office, tmp_path: Path) -> None:
    office.store().mailbox("INBOX").append([NewMessage([ONE])] * 3)
    file = tmp_path / "ann.tar"
    assert office.run("backup", "ann@o.example", file)[0] == 0
    assert office.run("restore", file, "ann@o.example", "--check")[1].endswith("sound: 3 messages\n")
    data = file.read_bytes()
    for wreck in (data.replace(b"Subject: one", b"Subject: two", 1), data[: len(data) // 2], b"nothing"):
        file.write_bytes(wreck)
        code, told = office.run("restore", file, "ann@o.example", "--check")
        assert code == 1 and str(file) in told, told


def test_undelete(office: Office) -> None:
    store = office.store()
    inbox = store.mailbox("INBOX")
    inbox.append([NewMessage([ONE]), NewMessage([TWO])])
    inbox.remove([1, 2])
    code, told = office.run("undelete", "ann@o.example", "--list")
    assert code == 0 and "one" in told and "two" in told
    assert office.run("undelete", "ann@o.example", "--subject", "TWO", "--since", "1d") == (0, "1 messages came back\n")
    assert inbox.rows(None, ("uid",)) == [(3,)] or (inbox.refresh() and inbox.uids() == [3])
    assert office.run("undelete", "ann@o.example", "--since", "soon")[0] == 2


def test_index_rebuild_keeps_every_number(office: Office) -> None:
    store = office.store()
    inbox = store.mailbox("INBOX")
    inbox.append([NewMessage([ONE]), NewMessage([TWO])])
    inbox.store([1], "+", ["\\Seen"])
    before = inbox.rows(None, ("uid", "modseq", "flags", "envelope"))
    assert office.run("index", "rebuild")[0] == 0
    assert inbox.rows(None, ("uid", "modseq", "flags", "envelope")) == before
    assert office.run("index", "rebuild", "ann@o.example", "--from-nothing")[0] == 0
    highest = inbox.refresh()
    after = inbox.rows(None, ("uid", "modseq", "flags", "envelope"))
    assert [(row[0], row[2:]) for row in after] == [(row[0], row[2:]) for row in before]
    assert highest > max(row[1] for row in before)
