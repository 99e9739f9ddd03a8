"""Binary parts become base64 where they hold a NUL, and nothing else changes."""

from __future__ import annotations

import base64

import pytest

from mailguard.model.mime import parse
from mailguard.model.recode import as_text

TWO = (
    b"Subject: two\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: Binary\r\n\r\n"
    b"a\0b\r\nc\r\n--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n--b--\r\n"
)


def test_the_part_keeps_its_octets_and_the_others_stay() -> None:
    made = as_text(TWO)
    first, second = parse(made).children
    assert (first.encoding, base64.b64decode(first.body)) == ("base64", b"a\0b\r\nc")
    assert second.raw[second.start : second.end] == b"Content-Type: text/plain\r\n\r\nplain"
    assert made.startswith(b"Subject: two\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n")


def test_a_message_of_one_part() -> None:
    made = parse(as_text(b"Content-Transfer-Encoding: binary\r\n\r\n" + bytes(range(256))))
    assert (made.encoding, base64.b64decode(made.body)) == ("base64", bytes(range(256)))


@pytest.mark.parametrize("raw", [TWO.replace(b"\0", b""), TWO.replace(b"Binary", b"8bit"), b"", b"\0", b"x: y\0\r\n"])
def test_what_needs_nothing_or_cannot_be_helped_stays(raw: bytes) -> None:
    assert as_text(raw) == raw
