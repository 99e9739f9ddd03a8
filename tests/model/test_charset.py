"""Octets to text, whatever the octets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.model.charset import decode_header, decode_text, decode_transfer, is_known


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"plain", "plain"),
        (b"=?utf-8?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"),
        (b"=?ISO-8859-1?B?R3L832U=?= =?iso-8859-1?q?_an_alle?=", "Grüße an alle"),
        (b"=?utf-8?B?8J+Y?= =?utf-8?B?gA==?=", "\U0001f600"),
        (b"=?gb2312?B?xOO6ww==?=", "你好"),
        (b"Re: =?utf-8?Q?a?= b", "Re: a b"),
        ("Grüße".encode(), "Grüße"),
        (b"Gr\xfc\xdfe", "Grüße"),
        (b"=?nonsense?Q?abc?=", "abc"),
        (b"=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
    ],
)
def test_headers_as_people_read_them(raw: bytes, text: str) -> None:
    assert decode_header(raw) == text


@pytest.mark.parametrize(
    ("data", "encoding", "plain"),
    [
        (b"aGVsbG8=", "base64", b"hello"),
        (b"aGVs\r\nbG8", "BASE64", b"hello"),
        (b"a*GVs!bG8=", "base64", b"hello"),
        (b"a=3Db=\r\nc", "quoted-printable", b"a=bc"),
        (b"as it is", "x-unknown", b"as it is"),
    ],
)
def test_transfer_encodings(data: bytes, encoding: str, plain: bytes) -> None:
    assert decode_transfer(data, encoding) == plain


def test_codecs_that_are_no_charsets_are_refused() -> None:
    assert not is_known("unicode_escape")
    assert not is_known("idna")
    assert not is_known("hex")
    assert is_known("koi8-r")


@given(st.binary(max_size=200), st.sampled_from(["utf-8", "utf-7", "iso-2022-jp", "big5", "x", "base64", "utf-16"]))
def test_any_octets_become_text(data: bytes, charset: str) -> None:
    assert isinstance(decode_text(data, charset), str)
    assert isinstance(decode_header(b"=?" + charset.encode() + b"?B?" + data + b"?=" + data), str)
    assert isinstance(decode_transfer(data, "base64"), bytes)
