"""Quota, rights, shared mailboxes, metadata, NOTIFY, special uses over loopback."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mailguard.store.account import AccountStore
from mailguard.store.quota import Limits

MAIL = b"From: bob@example.org\r\nSubject: x\r\n\r\n" + b"y" * 2000


@pytest.fixture
def ann(office: Any) -> Iterator[Any]:
    with office.bare() as client:
        yield client


def test_a_full_account_says_so(office: Any, ann: Any) -> None:
    assert ann.ok("GETQUOTAROOT INBOX") == [b"* QUOTAROOT INBOX"]
    office.store.limits = Limits(5000, 10)
    assert ann.ok("GETQUOTAROOT INBOX") == [b'* QUOTAROOT INBOX ""', b'* QUOTA "" (STORAGE 0 4 MESSAGE 0 10)']
    assert ann.append("INBOX", MAIL).startswith(b"OK")
    assert ann.ok('GETQUOTA ""') == [b'* QUOTA "" (STORAGE 2 4 MESSAGE 1 10)']
    assert ann.append("INBOX", MAIL).startswith(b"OK")
    result = ann.append("INBOX", MAIL)
    assert result.startswith(b"NO [OVERQUOTA] the account is full")
    ann.ok("SELECT INBOX")
    assert ann.command("COPY 1 Archive")[1].startswith(b"NO [OVERQUOTA]")
    ann.ok("MOVE 1 Archive")
    ann.ok("STORE 1 +FLAGS.SILENT \\Deleted")
    assert ann.ok("STATUS INBOX (DELETED DELETED-STORAGE)") == [b"* STATUS INBOX (DELETED 1 DELETED-STORAGE 2)"]
    assert ann.command('SETQUOTA "" (STORAGE 9)')[1].startswith(b"NO [NOPERM]")
    assert ann.command("GETQUOTA other")[1].startswith(b"NO [NONEXISTENT]")


def test_rights_and_shared_mailboxes(office: Any, ann: Any, tmp_path: Path) -> None:
    assert ann.ok("MYRIGHTS INBOX") == [b"* MYRIGHTS INBOX lrswipkxtea"]
    assert ann.ok("GETACL INBOX") == [b"* ACL INBOX ann@office.test lrswipkxtea"]
    assert ann.command("SETACL INBOX bob lr")[1].startswith(b"NO [NOPERM]")
    info = AccountStore(tmp_path / "info", tmp_path / "info.db")
    office.store.shares.accounts = {"info@office.test": info}
    assert ann.ok("NAMESPACE") == [b'* NAMESPACE (("" "/")) NIL (("Shared/" "/"))']
    assert b'* LIST (\\HasChildren) "/" Shared/info@office.test' in ann.ok('LIST "" *')
    assert ann.append("Shared/info@office.test", MAIL).startswith(b"OK")
    ann.ok("SELECT Shared/info@office.test")
    assert len(ann.ok("FETCH 1 (FLAGS BODY.PEEK[])")) == 1
    ann.ok("COPY 1 INBOX")
    assert b"a" not in ann.ok("MYRIGHTS Shared/info@office.test")[0].split()[-1]
    for command in ("GETACL", "DELETE"):
        assert ann.command(f"{command} Shared/info@office.test")[1].startswith(b"NO [NOPERM]")
    assert ann.command("CREATE Shared/other")[1].startswith(b"NO [CANNOT]")
    info.close()


def test_metadata(ann: Any) -> None:
    ann.ok("CREATE box")
    ann.ok('SETMETADATA box (/private/comment "mine" /shared/color/red {3+}\r\na"b)')
    assert ann.ok("GETMETADATA box (/private/comment /private/none)") == [
        b'* METADATA box (/private/comment "mine" /private/none NIL)'
    ]
    assert ann.ok("GETMETADATA (DEPTH infinity) box /shared") == [b'* METADATA box (/shared/color/red "a\\"b")']
    lines, result = ann.command("GETMETADATA (MAXSIZE 2) box /private/comment")
    assert lines == [] and result.startswith(b"OK [METADATA LONGENTRIES 4]")
    ann.ok("RENAME box other")
    assert b'"mine"' in ann.ok("GETMETADATA other /private/comment")[0]
    ann.ok("SETMETADATA other (/private/comment NIL)")
    assert b"NIL" in ann.ok("GETMETADATA other /private/comment")[0]
    ann.ok("DELETE other")
    ann.ok("CREATE other")
    assert ann.ok("GETMETADATA (DEPTH 1) other /shared") == []
    assert ann.command("SETMETADATA other (/nonsense 1)")[1].startswith(b"BAD")
    big = b"x" * 70_000
    assert ann.command(b"SETMETADATA other (/private/a {70000}\r\n%b)" % big)[1].startswith(
        b"NO [METADATA MAXSIZE 65536]"
    )
    ann.ok('SETMETADATA "" (/private/vendor/x "1")')
    assert ann.command('SETMETADATA "" (/shared/admin "1")')[1].startswith(b"NO [NOPERM]")


def test_special_uses(ann: Any) -> None:
    ann.ok("CREATE Gesendet (USE (\\Sent))")
    lines = ann.ok('LIST (SPECIAL-USE) "" *')
    assert b'* LIST (\\HasNoChildren \\Sent) "/" Gesendet' in lines
    assert not any(b'"/" Sent' in line for line in lines)
    assert ann.command("CREATE All (USE (\\All))")[1].startswith(b"NO [USEATTR]")
    assert ann.command("SELECT All")[1].startswith(b"NO [NONEXISTENT]")


def test_notify_tells_of_other_mailboxes_without_idle(office: Any, ann: Any) -> None:
    ann.ok("SELECT INBOX")
    lines = ann.ok("NOTIFY SET STATUS (MAILBOXES (Junk Archive) (MessageNew MessageExpunge))")
    assert [line.split(b" UIDVALIDITY")[0] for line in lines] == [
        b"* STATUS Junk (MESSAGES 0 UIDNEXT 1",
        b"* STATUS Archive (MESSAGES 0 UIDNEXT 1",
    ]
    office.store.deliver([MAIL], "Junk")
    assert ann.line().startswith(b"* STATUS Junk (MESSAGES 1 UIDNEXT 2 ")
    ann.ok("ENABLE CONDSTORE")
    office.store.deliver([MAIL], "Archive")
    assert re.fullmatch(rb"\* STATUS Archive \(MESSAGES 1 UIDNEXT 2 UIDVALIDITY \d+ HIGHESTMODSEQ \d+\)", ann.line())
    office.store.deliver([MAIL])
    assert ann.line() == b"* 1 EXISTS"
    ann.line()
    ann.ok("NOTIFY NONE")
    assert b"[BADEVENT (" in ann.command("NOTIFY SET (PERSONAL (AnnotationChange))")[1]
    assert ann.command("NOTIFY SET (PERSONAL (MessageNew))")[1].startswith(b"BAD")


def test_a_long_literal_must_be_announced(ann: Any) -> None:
    result = ann.command(b"APPEND INBOX {5000+}\r\n" + b"x" * 5000)[1]
    assert result.startswith(b"BAD [TOOBIG] ")
    assert ann.ok("NOOP") == []
