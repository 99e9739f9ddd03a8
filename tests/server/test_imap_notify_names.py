"""NOTIFY of what happens to mailboxes as such: names, subscriptions, metadata (RFC 5465 §5.4 to §5.7)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

ALL = "MailboxName SubscriptionChange MailboxMetadataChange ServerMetadataChange"


@pytest.fixture
def ann(office: Any) -> Iterator[Any]:
    with office.bare() as client:
        client.ok("CREATE work/old")
        yield client


@pytest.fixture
def other(office: Any) -> Iterator[Any]:
    with office.bare() as client:
        yield client


def test_a_waiting_client_hears_what_others_do(ann: Any, other: Any) -> None:
    ann.ok(f"NOTIFY SET (PERSONAL ({ALL}))")
    other.ok("CREATE fresh")
    assert ann.line() == b'* LIST (\\HasNoChildren) "/" fresh'
    other.ok("SUBSCRIBE fresh")
    assert ann.line() == b'* LIST (\\HasNoChildren \\Subscribed) "/" fresh'
    other.ok("RENAME fresh new")
    assert ann.line() == b'* LIST (\\HasNoChildren) "/" new ("OLDNAME" (fresh))'
    other.ok('SETMETADATA new (/private/comment "x")')
    assert ann.line() == b"* METADATA new /private/comment"
    other.ok('SETMETADATA "" (/private/comment "x")')
    assert ann.line() == b'* METADATA "" /private/comment'
    other.ok("DELETE new")
    assert ann.line() == b'* LIST (\\NonExistent \\HasNoChildren) "/" new'
    other.ok("CREATE work/old/deep")
    assert [ann.line(), ann.line()] == [
        b'* LIST (\\HasChildren) "/" work/old', b'* LIST (\\HasNoChildren) "/" work/old/deep',
    ]  # fmt: skip
    other.ok("RENAME work/old play")  # and what is below it, in one line
    assert ann.line() == b'* LIST (\\HasChildren) "/" play ("OLDNAME" (work/old))'
    assert ann.ok("NOOP") == []


def test_the_client_s_own_doings_are_not_told(ann: Any, other: Any) -> None:
    ann.ok(f"NOTIFY SET (PERSONAL ({ALL}))")
    for command in ("CREATE mine", "SUBSCRIBE mine", 'SETMETADATA mine (/private/comment "x")', "RENAME mine ours",
                    "UNSUBSCRIBE mine", "DELETE ours"):  # fmt: skip
        assert [line for line in ann.ok(command) if b"mine" in line or b"ours" in line] == []
    other.ok("CREATE theirs")
    assert ann.line().endswith(b" theirs")


def test_only_what_was_asked_for_is_told(ann: Any, other: Any) -> None:
    ann.ok("NOTIFY SET (SUBTREE work (MailboxName)) (MAILBOXES (Junk) (SubscriptionChange)) (INBOXES NONE)")
    for command in ("CREATE elsewhere", "SUBSCRIBE work/old", "UNSUBSCRIBE Trash", 'SETMETADATA "" (/private/a "x")'):
        other.ok(command)
    assert ann.ok("NOOP") == []
    other.ok("UNSUBSCRIBE Junk")
    assert ann.line() == b'* LIST (\\HasNoChildren \\Junk) "/" Junk'
    other.ok("CREATE work/young")
    assert [ann.line().split()[-1], ann.line().split()[-1]] == [b"work", b"work/young"]


def test_mail_in_a_new_mailbox_is_told_of_too(office: Any, ann: Any, other: Any) -> None:
    ann.ok("NOTIFY SET (PERSONAL (MailboxName MessageNew MessageExpunge))")
    other.ok("CREATE fresh")
    assert ann.line().endswith(b" fresh")
    office.store.deliver([b"Subject: x\r\n\r\nx\r\n"], "fresh")
    assert ann.line().startswith(b"* STATUS fresh (MESSAGES 1 UIDNEXT 2 ")


def test_it_goes_on_after_idle(office: Any, ann: Any, other: Any) -> None:
    ann.ok("SELECT INBOX")
    ann.ok("NOTIFY SET (PERSONAL (MailboxName))")
    ann.send(b"i IDLE\r\n")
    assert ann.line() == b"+ idling"
    ann.send(b"DONE\r\n")
    assert ann.line().startswith(b"i OK")
    other.ok("CREATE fresh")
    assert ann.line().endswith(b" fresh")
