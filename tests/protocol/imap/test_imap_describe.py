from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.model.mime import parse
from mailguard.protocol.imap.describe import describe, preview
from mailguard.protocol.imap.searchtext import search_text


def message(*lines: str) -> bytes:
    return "\r\n".join(lines).encode() + b"\r\n"


MIXED = message(
    "From: A <a@x.test>",
    "To: b@y.test",
    "Subject: Re: =?utf-8?q?Gr=C3=BC=C3=9Fe?=",
    "Date: Thu, 1 Jan 1970 00:00:05 +0000",
    "Message-ID: <2@x.test>",
    "In-Reply-To: <1@y.test> <0@y.test>",
    'Content-Type: multipart/mixed; boundary="m"',
    "",
    "preamble",
    "--m",
    "",
    "Hello",
    "there",
    "--m",
    "Content-Type: message/rfc822",
    "",
    "From: c@z.test",
    "Subject: inner",
    "",
    "text",
    "--m",
    'Content-Type: application/pdf; name="a.pdf"',
    'Content-Disposition: attachment; filename="a.pdf"',
    "Content-Transfer-Encoding: base64",
    "Content-Language: en, de",
    "",
    "AAAA",
    "--m--",
)


def test_envelope() -> None:
    assert describe(MIXED).envelope == (
        b'("Thu, 1 Jan 1970 00:00:05 +0000" "Re: =?utf-8?q?Gr=C3=BC=C3=9Fe?=" (("A" NIL "a" "x.test"))'
        b' (("A" NIL "a" "x.test")) (("A" NIL "a" "x.test")) ((NIL NIL "b" "y.test")) NIL NIL'
        b' "<1@y.test> <0@y.test>" "<2@x.test>")'
    )


def test_bodystructure() -> None:
    author = b'((NIL NIL "c" "z.test"))'
    inner = b'(NIL "inner" %b %b %b NIL NIL NIL NIL NIL)' % (author, author, author)
    text = b'"text" "plain" ("charset" "us-ascii") NIL NIL "7bit"'
    assert describe(MIXED).bodystructure == (
        b"((" + text + b" 12 1 NIL NIL NIL NIL)"
        b'("message" "rfc822" NIL NIL NIL "7bit" 38 '
        + inner
        + b" ("
        + text
        + b" 4 0 NIL NIL NIL NIL) 3 NIL NIL NIL NIL)"
        b'("application" "pdf" ("name" "a.pdf") NIL NIL "base64" 4 NIL'
        b' ("attachment" ("filename" "a.pdf")) ("en" "de") NIL)'
        b' "mixed" ("boundary" "m") NIL NIL NIL)'
    )


def test_what_sort_thread_and_search_need() -> None:
    found = describe(MIXED)
    assert (found.base_subject, found.is_reply, found.subject) == ("GRU\u0308\u00dfE", True, "re: gru\u0308sse")
    assert (found.from_key, found.to_key, found.cc_key, found.display_from) == ("A", "B", "", "A")
    assert (found.sent_at, found.sent_day, found.message_id) == (5, 0, "2@x.test")
    assert found.references == ("1@y.test",)
    assert (found.from_, found.cc, preview(parse(MIXED))) == ("a <a@x.test>", None, "Hello there")


def test_html_alone_has_a_preview() -> None:
    raw = message("Content-Type: text/html", "", "<style>p{}</style><p>Hi&nbsp;<b>you</b></p>")
    assert preview(parse(raw)) == "Hi you"


def test_multipart_without_a_part_is_an_empty_text() -> None:
    raw = message("Content-Type: multipart/mixed; boundary=x", "", "nothing")
    assert describe(raw).body == b'(("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 0 0) "mixed")'


@given(st.binary(max_size=300) | st.text(alphabet='\r\n :;="-ab/', max_size=120).map(str.encode))
def test_garbage_never_raises(noise: bytes) -> None:
    describe(noise)
    describe(MIXED[: len(MIXED) // 2] + noise + MIXED[len(MIXED) // 2 :])


@pytest.mark.parametrize(
    "raw",
    [
        b"x" + b" " * 300_000 + b"\r\n\r\n",
        b"Subject: " + b" " * 300_000 + b"x\r\n\r\n",
        b"References: " + b"a" * 300_000 + b"\r\n\r\n",
        b"Content-Type: text/html\r\n\r\n" + b"<script" * 50_000,
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(2_000)),
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\n" + b"--a\r\n" * 50_000,
    ],
)
def test_hostile_messages_are_bounded(raw: bytes) -> None:
    describe(raw)
    search_text(raw)


def test_third_party_mail_never_raises(shared: Path) -> None:
    files = [f for f in (shared / "testdata" / "mime").rglob("*") if f.is_file()]
    assert files
    for file in files:
        found = describe(file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
        assert found.envelope.startswith(b"(")
        assert found.bodystructure.count(b"(") >= found.body.count(b"(")
