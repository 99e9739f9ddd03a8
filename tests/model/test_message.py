"""Messages as octets: what is taken out is gone, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.model.message import Message

LINES = [
    b"Subject: s\r\n",
    b"Bcc: b\r\n",
    b" folded\r\n",
    b"no field at all\r\n",
    b"From ann Mon Jan 1\r\n",
    b"X-Y : z\r\n",
]


@given(st.lists(st.sampled_from(LINES)), st.booleans())
def test_only_what_is_dropped_goes(lines: list[bytes], ends: bool) -> None:
    raw = b"".join(lines) + (b"\r\nbody no field\r\n" if ends else b"")
    message = Message(raw)
    left, dropping = [], False
    for line in lines:
        dropping = line == b"Bcc: b\r\n" or (dropping and line == b" folded\r\n")
        left += [] if dropping else [line]
    expected = b"".join(left) + (b"\r\nbody no field\r\n" if ends else b"")
    assert bytes(message.without(message.get_all("Bcc"))) == expected


@pytest.mark.parametrize(
    "raw", [b"Bcc: b\r\nHello, this letter has no blank line\r\nand goes on\r\n", b"\r\nonly a body\r\n"]
)
def test_text_without_a_header_of_its_own_is_not_lost(raw: bytes) -> None:
    message = Message(raw)
    kept = bytes(message.without(message.get_all("Bcc")).prepend(b"X: y\r\n"))
    assert kept == b"X: y\r\n" + raw.removeprefix(b"Bcc: b\r\n")
