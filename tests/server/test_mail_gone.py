"""What clients hear when mail vanishes under their hands, or its index is torn: a clear answer."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from mailguard.store import maildir

MAIL = b"Subject: hello\r\n\r\nline\r\n"


@pytest.mark.parametrize(
    "command",
    ["FETCH 1 (FLAGS)", "FETCH 1 (BODY[])", "STORE 1 +FLAGS (\\Seen)", "SEARCH BODY x", "COPY 1 INBOX", "EXPUNGE",
     "NOOP", "CHECK", "CLOSE"],
)  # fmt: skip
def test_a_selected_mailbox_whose_folder_goes(office: Any, command: str) -> None:
    with office.bare() as client:
        client.ok("CREATE Work")
        assert client.append("Work", MAIL).startswith(b"OK")
        client.ok("SELECT Work")
        shutil.rmtree(office.folder / "mail" / ".Work")
        client.send(b"a " + command.encode() + b"\r\nb NOOP\r\n")
        told = client.file.read()  # to the end of the connection
        assert b"* BYE the mailbox is gone\r\n" in told, told
        assert b"a OK" in told or b"a NO [NONEXISTENT] the mailbox is gone" in told or told.startswith(b"* BYE"), told
    with office.bare() as client:  # the server goes on
        assert b"NONEXISTENT" in client.command("SELECT Work")[1]
        client.ok("SELECT INBOX")


def test_append_to_a_folder_that_is_gone(office: Any) -> None:
    with office.bare() as client:
        client.ok("CREATE Work")
        office.store.mailbox("Work")
        shutil.rmtree(office.folder / "mail" / ".Work")
        result = client.append("Work", MAIL)
        assert result.startswith(b"NO [TRYCREATE]"), result


def test_an_index_torn_while_a_client_reads(office: Any) -> None:
    with office.bare() as client:
        for _ in range(3):
            assert client.append("INBOX", MAIL).startswith(b"OK")
        client.ok("SELECT INBOX")
        office.store.close()
        for name in ("index.db-wal", "index.db-shm"):
            (office.folder / name).unlink(missing_ok=True)
        (office.folder / "index.db").write_bytes(b"no database" * 1000)
        (office.folder / "mail" / "new" / "1700000000.M1P1.x").write_bytes(MAIL)
        untagged = client.ok("NOOP")
        assert b"* 4 EXISTS" in untagged
        assert len(client.ok("UID FETCH 1:* (UID FLAGS ENVELOPE)")) == 4


def test_a_maildir_without_its_empty_folders_is_completed(office: Any) -> None:
    """As a backup program that leaves out empty folders restores it."""
    for folder in ("new", "tmp"):
        (office.folder / "mail" / folder).rmdir()
    office.store._mailboxes.clear()
    with office.bare() as client:
        assert client.append("INBOX", MAIL).startswith(b"OK")
    assert all((office.folder / "mail" / folder).is_dir() for folder in maildir.FOLDERS)
