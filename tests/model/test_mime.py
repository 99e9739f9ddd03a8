"""The MIME tree: numbers and offsets on ordinary mail, calm on broken mail."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.model import contenttype, mime

MIXED = b"""From: a@example.net\r
Content-Type: multipart/mixed; boundary="outer"\r
\r
preamble\r
--outer\r
\r
Hello\r
--outer\r
Content-Type: multipart/alternative; boundary=outerinner\r
\r
--outerinner\r
Content-Type: text/plain; charset=utf-8\r
Content-Transfer-Encoding: quoted-printable\r
\r
Gr=C3=BC=C3=9Fe\r
--outerinner\r
Content-Type: text/html; charset=iso-8859-1\r
Content-Transfer-Encoding: base64\r
\r
PGI+R3L832U8L2I+\r
--outerinner--\r
--outer\r
Content-Type: application/pdf; name*0*=UTF-8''Rechnung%20; name*1="M\xc3\xa4rz.pdf"\r
Content-Disposition: attachment; filename="=?utf-8?Q?M=C3=A4rz.pdf?="\r
\r
%PDF\r
--outer\r
Content-Type: message/rfc822\r
\r
Subject: inner\r
\r
inner body\r
--outer--\r
epilogue\r
"""


def test_the_tree_has_the_parts_in_their_places() -> None:
    tree = mime.parse(MIXED)
    assert [part.kind for part in tree.walk()] == [
        "multipart/mixed",
        "text/plain",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "application/pdf",
        "message/rfc822",
        "text/plain",
    ]
    hello, alternative, pdf, forwarded = tree.children
    assert hello.body == b"Hello"
    assert [part.text() for part in alternative.children] == ["Grüße", "<b>Grüße</b>"]
    assert pdf.filename == "März.pdf"
    assert forwarded.children[0].first(b"subject") == b"inner"
    assert forwarded.children[0].body == b"inner body"


def test_offsets_point_into_the_message() -> None:
    for part in mime.parse(MIXED).walk():
        assert part.header + part.body == MIXED[part.start : part.end]
        assert 0 <= part.start <= part.body_start <= part.end <= len(MIXED)


@pytest.mark.parametrize(
    ("value", "kind", "charset"),
    [
        (b"text/html; charset=utf-8", "text/html", b"utf-8"),
        (b'TEXT/Plain (a comment); CHARSET="us-ascii"', "text/plain", b"us-ascii"),
        (b"text", None, b""),
        (b"", None, b""),
    ],
)
def test_content_types(value: bytes, kind: str | None, charset: bytes) -> None:
    found = contenttype.parse_content_type(value)
    assert (found.kind if found else None) == kind
    assert (found.param(b"charset") if found else b"") == charset


def test_a_digest_holds_messages_by_default() -> None:
    raw = b"Content-Type: multipart/digest; boundary=x\r\n\r\n--x\r\n\r\nSubject: one\r\n\r\nbody\r\n--x--\r\n"
    (child,) = mime.parse(raw).children
    assert child.kind == "message/rfc822"
    assert child.children[0].first(b"subject") == b"one"


def test_depth_and_number_of_parts_are_bounded() -> None:
    deep = b"Content-Type: message/rfc822\r\n\r\n" * 5_000
    assert sum(1 for _ in mime.parse(deep).walk()) == mime.MAX_DEPTH + 1
    wide = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n\r\na\r\n" * 50_000
    assert sum(1 for _ in mime.parse(wide).walk()) <= mime.MAX_PARTS + 1


@given(st.binary(max_size=400))
def test_nothing_makes_it_raise(junk: bytes) -> None:
    raw = b"Content-Type: multipart/mixed; boundary=" + junk[:20] + b"\r\n\r\n--" + junk[:20] + b"\r\n" + junk
    for part in mime.parse(raw).walk():
        assert isinstance(part.text(), str)
        assert isinstance(part.filename, str)


def test_real_and_broken_mail_is_read_to_the_end(shared: Path) -> None:
    count = 0
    for file in sorted((shared / "testdata/mime").rglob("*")):
        if file.is_file() and file.stat().st_size < 300_000:
            for part in mime.parse(file.read_bytes()).walk():
                part.text(10_000)
                count += part.filename is not None
    assert count > 500


@given(
    st.lists(st.sampled_from([b"QUJD", b"RA==", b"RUZH", b"\r\n", b"=", b"=41", b"a ", b"=\r\n", b"-"])),
    st.integers(1, 9),
)
def test_a_part_in_pieces_is_the_whole_part(tokens: list[bytes], size: int) -> None:
    for encoding in ("base64", "quoted-printable", "7bit"):
        body = b"".join(tokens)
        if encoding == "base64":
            body = body.replace(b"=", b"").replace(b"41", b"") + b"RA==\r\n"
        part = mime.parse(f"Content-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mime, "_PIECE", size)
            assert b"".join(part.pieces()) == part.content()
