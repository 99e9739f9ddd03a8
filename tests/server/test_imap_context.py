"""Searches kept up to date (CONTEXT=SEARCH), and what NOTIFY says of new messages, over real connections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mailguard.protocol.imap.context import MOST

MAIL = b"Subject: %b\r\n\r\ntext\r\n"


@pytest.fixture
def ann(office: Any) -> Iterator[Any]:
    with office.bare() as client:
        for word in (b"one", b"two", b"three"):
            assert client.append("INBOX", MAIL % word).startswith(b"OK")
        client.ok("SELECT INBOX")
        yield client


def told(lines: list[bytes]) -> list[bytes]:
    """What is no FETCH, EXISTS or RECENT."""
    return [line for line in lines if b"FETCH" not in line and not line.endswith((b"EXISTS", b"RECENT"))]


def test_changes_of_others_reach_a_search_in_idle(office: Any, ann: Any) -> None:
    ann.send(b"s UID SEARCH RETURN (UPDATE COUNT) FLAGGED\r\n")
    assert ann.line() == b'* ESEARCH (TAG "s") UID COUNT 0'
    assert ann.line().startswith(b"s OK")
    ann.send(b"i IDLE\r\n")
    assert ann.line().startswith(b"+")
    with office.bare() as bob:
        bob.ok("SELECT INBOX")
        bob.ok("STORE 2:3 +FLAGS.SILENT (\\Flagged)")
        heard = [ann.line() for _ in range(3)]
        assert heard[-1] == b'* ESEARCH (TAG "s") UID ADDTO (0 2:3)'
        bob.append("INBOX", MAIL % b"four", "(\\Flagged) ")
        while not (line := ann.line()).startswith(b"* ESEARCH"):
            pass
        assert line == b'* ESEARCH (TAG "s") UID ADDTO (0 4)'
        bob.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
        bob.ok("EXPUNGE")
        while not (line := ann.line()).startswith(b"* ESEARCH"):
            pass
        assert line == b'* ESEARCH (TAG "s") UID REMOVEFROM (0 2)'
        assert ann.line() == b"* 2 EXPUNGE"  # only then


def test_numbers_are_those_before_the_expunge(ann: Any) -> None:
    ann.send(b"s SEARCH RETURN (UPDATE ALL) UNSEEN\r\n")
    assert ann.line() == b'* ESEARCH (TAG "s") ALL 1:3'
    assert ann.line().startswith(b"s OK")
    ann.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
    assert told(ann.ok("EXPUNGE")) == [b'* ESEARCH (TAG "s") REMOVEFROM (0 2)', b"* 2 EXPUNGE"]
    assert told(ann.ok("STORE 2 +FLAGS.SILENT (\\Seen)")) == [b'* ESEARCH (TAG "s") REMOVEFROM (0 2)']
    assert told(ann.ok("STORE 2 -FLAGS.SILENT (\\Seen)")) == [b'* ESEARCH (TAG "s") ADDTO (0 2)']
    assert told(ann.ok("STORE 2 +FLAGS.SILENT (\\Answered)")) == []


def test_an_end_to_it(ann: Any) -> None:
    ann.ok('SEARCH RETURN (UPDATE) SUBJECT "t"')
    _, result = ann.command('CANCELUPDATE "nothing"')
    assert result.startswith(b"BAD")
    tag = b"t%d" % (ann._count - 1)
    assert ann.ok(b'CANCELUPDATE "%b"' % tag) == []
    assert told(ann.ok("STORE 1:3 +FLAGS.SILENT (\\Seen)")) == []
    ann.ok("SEARCH RETURN (UPDATE) UNSEEN")
    ann.ok("SELECT INBOX")
    assert told(ann.ok("STORE 1:3 -FLAGS.SILENT (\\Seen)")) == []


def test_there_is_a_bound(ann: Any) -> None:
    for _ in range(MOST):
        assert not any(b"NOUPDATE" in line for line in ann.ok("SEARCH RETURN (UPDATE) UNSEEN"))
    *_, line = ann.ok("SEARCH RETURN (COUNT UPDATE) UNSEEN")
    assert line.startswith(b'* NO [NOUPDATE "t')


def test_a_hint_changes_nothing(ann: Any) -> None:
    (line,) = ann.ok("SEARCH RETURN (CONTEXT) ALL")
    assert line.endswith(b"ALL 1:3")
    assert ann.command("SORT RETURN (UPDATE) (DATE) UTF-8 ALL")[1].startswith(b"BAD")


def test_notify_fetches_what_is_new_in_the_selected_mailbox(office: Any, ann: Any) -> None:
    ann.ok("NOTIFY SET (SELECTED (MessageNew (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)]) MessageExpunge))")
    with office.bare() as bob:
        bob.append("INBOX", MAIL % b"four")
    heard = [ann.line(), ann.line(), ann.line()]
    assert heard[0] == b"* 4 EXISTS" and heard[1].endswith(b"RECENT")
    assert heard[2] == b"* 4 FETCH (UID 4 BODY[HEADER.FIELDS (SUBJECT)] {17}\r\nSubject: four\r\n\r\n)"
    ann.ok("NOTIFY NONE")
    with office.bare() as bob:
        bob.append("INBOX", MAIL % b"five")
    assert [line for line in ann.ok("NOOP") if b"FETCH" in line] == []
