"""Data items and limits of extensions that no other test asks for: SAVEDATE, UNKNOWN-CTE, APPENDLIMIT, METADATA."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

ENCODED = (
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n"
    b"--b\r\nContent-Transfer-Encoding: x-uue\r\n\r\nzzz\r\n--b--\r\n"
)


@pytest.fixture
def ann(office: Any) -> Iterator[Any]:
    with office.bare() as client:
        assert client.append("INBOX", ENCODED, '"01-Jan-2020 10:00:00 +0000" ').startswith(b"OK")
        client.ok("SELECT INBOX")
        yield client


def test_savedate_is_the_arrival_in_this_mailbox(ann: Any) -> None:
    (line,) = ann.ok("FETCH 1 (INTERNALDATE SAVEDATE)")
    assert b'INTERNALDATE "01-Jan-2020 10:00:00 +0000"' in line and b'SAVEDATE "01-Jan-2020' not in line
    assert ann.ok("SEARCH SAVEDSINCE 1-Jan-2021 BEFORE 1-Jan-2021") == [b"* SEARCH 1"]
    assert ann.ok("SEARCH SAVEDBEFORE 1-Jan-2021") == [b"* SEARCH"]
    assert ann.ok("SEARCH SAVEDATESUPPORTED") == [b"* SEARCH 1"]


def test_a_part_in_an_unknown_encoding_cannot_be_had_as_binary(ann: Any) -> None:
    assert ann.ok("FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1])") == [b"* 1 FETCH (BINARY[1] {5}\r\nhello BINARY.SIZE[1] 5)"]
    for item in ("BINARY.PEEK[2]", "BINARY.SIZE[2]"):
        assert ann.command(f"FETCH 1 {item}")[1].startswith(b"NO [UNKNOWN-CTE]")
    assert b"zzz" in ann.ok("FETCH 1 BODY.PEEK[2]")[0]


def test_the_largest_message_is_announced(ann: Any) -> None:
    (capability,) = ann.ok("CAPABILITY")
    limit = re.search(rb"APPENDLIMIT=(\d+)", capability)
    assert limit is not None
    assert ann.ok("STATUS INBOX (APPENDLIMIT)") == [b"* STATUS INBOX (APPENDLIMIT %b)" % limit[1]]
    assert ann.command(b"APPEND INBOX {%d}" % (int(limit[1]) + 1))[1].startswith(b"NO [TOOBIG]")


def test_a_mailbox_has_room_for_so_many_annotations(ann: Any) -> None:
    for start in (0, 100):
        entries = " ".join(f'/private/e{n} "x"' for n in range(start, start + 100))
        ann.ok(f"SETMETADATA INBOX ({entries})")
    assert ann.command('SETMETADATA INBOX (/private/more "x")')[1].startswith(b"NO [METADATA TOOMANY]")
    assert ann.ok("GETMETADATA INBOX /private/more") == [b"* METADATA INBOX (/private/more NIL)"]
