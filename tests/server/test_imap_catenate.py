"""CATENATE: messages put together on the server (RFC 4469)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imapoffice
import pytest

MAIL = b"Subject: one\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nfirst part\r\n--b--\r\n"


@pytest.fixture
def ann(office: Any) -> Iterator[Any]:
    with office.bare() as client:
        assert client.append("INBOX", MAIL).startswith(b"OK")
        client.ok("CREATE gr&APwA3w-e")
        assert client.append("gr&APwA3w-e", b"Subject: two\r\n\r\nbody of two\r\n").startswith(b"OK")
        yield client


def catenate(client: Any, words: str) -> bytes:
    return bytes(client.command(f"APPEND Drafts (\\Draft) CATENATE ({words})")[1])


def test_text_and_urls_in_their_order(ann: Any) -> None:
    url = "URL /INBOX/;UID=1"
    words = f"{url}/;SECTION=HEADER TEXT {{5}}\r\n--b\r\n {url}/;section=1.MIME {url}/;SECTION=1 TEXT {{2}}\r\n\r\n"
    words += ' URL "/gr%C3%BC%C3%9Fe/;UID=1/;SECTION=TEXT/;PARTIAL=0.4"'
    assert catenate(ann, words).startswith(b"OK [APPENDUID")
    ann.ok("SELECT Drafts")
    (line,) = ann.ok("FETCH 1 (FLAGS BODY.PEEK[])")
    header = MAIL.partition(b"--b")[0]
    assert line.endswith(header + b"--b\r\n" + b"\r\n" + b"first part" + b"\r\n" + b"body)")
    assert b"FLAGS (\\Draft" in line


def test_a_url_without_a_mailbox_means_the_selected_one_which_stays_unseen(ann: Any) -> None:
    ann.ok("SELECT INBOX")
    assert catenate(ann, "URL ;UID=1").startswith(b"OK")
    assert ann.ok("SEARCH UNSEEN") == [b"* SEARCH 1"]
    ann.ok("SELECT Drafts")
    assert ann.ok("FETCH 1 BODY.PEEK[]")[0].endswith(MAIL + b")")


@pytest.mark.parametrize(
    "url",
    ["/INBOX/;UID=9", "/INBOX;UIDVALIDITY=1/;UID=1", "/INBOX/;UID=1/;SECTION=7", "/nowhere/;UID=1", "/INBOX",
     "/INBOX/;UID=1/;SECTION=1%5D", "imap://other.example/INBOX/;UID=1", "/%FF/;UID=1", "/INBOX/;UID=4294967297"],
)  # fmt: skip
def test_a_url_that_leads_nowhere_is_named_and_nothing_appended(ann: Any, url: str) -> None:
    assert catenate(ann, f'TEXT {{6}}\r\na: b\r\n URL "{url}"').startswith(f"NO [BADURL {url}]".encode())
    assert b"MESSAGES 0" in ann.ok("STATUS Drafts (MESSAGES)")[0]


def test_many_urls_do_not_make_a_message_over_the_limit(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        office = imapoffice.Office(tmp_path, stack, append_limit=100_000)
        with office.bare() as ann:
            ann.append("INBOX", b"a: b\r\n\r\n" + b"text\r\n" * 10_000)
            urls = " ".join(["URL /INBOX/;UID=1"] * 2)
            assert ann.command(f"APPEND INBOX CATENATE ({urls})")[1].startswith(b"NO [TOOBIG]")


def test_a_draft_gives_way_to_what_is_made_of_it(ann: Any) -> None:
    ann.ok("SELECT INBOX")
    words = "TEXT {16}\r\nSubject: newer\r\n URL /INBOX/;UID=1/;SECTION=TEXT"
    untagged, result = ann.command(f"REPLACE 1 INBOX CATENATE ({words})")
    assert result.startswith(b"OK") and b"* 1 EXPUNGE" in untagged
    assert b"Subject: newer" in ann.ok("FETCH 1 BODY.PEEK[HEADER]")[0]
