"""Any stream of commands, said to the whole service: replies come back, and nothing of a stranger's ever goes out."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from smtphouse import House

from mailguard.state.queue import queue_recipient

REPLY = re.compile(rb"[2345]\d\d[ -]|334 ")
ADDRESSES = [
    "ann@office.test", "ann+x@office.test", "postmaster", "bob@far.test", "bob%far.test@office.test",
    "far.test!bob@office.test",
    '"bob@far.test"@office.test', "@office.test:bob@far.test", "bob@[192.0.2.1]", "ann@office.test@far.test", "",
    "bob@b\u00fccher.test",
]  # fmt: skip
ADDRESS = st.sampled_from(ADDRESSES)
LINE = st.one_of(
    st.sampled_from([
        "EHLO c", "HELO c", "LHLO c", "DATA", "RSET", "NOOP", "VRFY x", "STARTTLS", "AUTH PLAIN AGEAYg==", "AUTH LOGIN",
        "XCLIENT ADDR=192.0.2.1 LOGIN=ann@office.test", "BDAT 3\r\nabc", "BDAT 2 LAST\r\nxy", "BDAT 0 LAST",
        "Subject: x\r\n\r\ntext\r\n.", ".", "x\n.\r", "*", "\0", "",
    ]),
    ADDRESS.map("MAIL FROM:<{}>".format),
    ADDRESS.map("MAIL FROM:<{}> SMTPUTF8 BODY=8BITMIME".format),
    ADDRESS.map("RCPT TO:<{}>".format),
    ADDRESS.map("RCPT TO:<{}> NOTIFY=SUCCESS".format),
)  # fmt: skip
WHOLE = (
    "EHLO c\r\nMAIL FROM:<a@x.test> SMTPUTF8\r\nRCPT TO:<ann@office.test>\r\nRCPT TO:<{}>\r\n"
    "DATA\r\nSubject: x\r\n\r\n."
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    made = House(tmp_path_factory.mktemp("streams"), trusts=())
    yield made
    made.database.close()


def outside(house: House) -> list[str]:
    """The domains for which something waits in the queue, but our own."""
    with house.database.read() as connection:
        return [
            name for name in connection.execute(sa.select(queue_recipient.c.domain)).scalars() if name != "office.test"
        ]


def answers(house: House, stream: bytes, kind: str = "smtp") -> list[bytes]:
    """What comes back for a whole stream, line by line."""
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=house.serve, args=(ours, kind))
    thread.start()
    with theirs, theirs.makefile("rb") as replies:
        theirs.sendall(stream)
        theirs.shutdown(socket.SHUT_WR)
        found = replies.read().split(b"\r\n")
    thread.join(60)
    assert not thread.is_alive()
    assert found.pop() == b""
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(LINE, max_size=25))
def test_a_strangers_stream_gets_replies_and_is_no_relay(house: House, lines: list[str]) -> None:
    found = answers(house, "".join(f"{line}\r\n" for line in lines).encode())
    assert found[0].startswith(b"220 mx.test")
    assert [line for line in found if not REPLY.match(line)] == []
    assert outside(house) == []


@pytest.mark.parametrize("address", ADDRESSES)
def test_nor_is_one_that_is_all_in_order(house: House, address: str) -> None:
    found = answers(house, (WHOLE.format(address) + "\r\nQUIT\r\n").encode())
    assert found[-1].startswith(b"221") and found[-2].startswith(b"250 2.0.0 taken as")
    assert outside(house) == []


@pytest.mark.parametrize("kind", ["smtp", "submission"])
def test_who_is_signed_in_does_get_out(tmp_path: Path, kind: str) -> None:
    """What the tests above look for is seen where it is. A proxy has asked for the password here (XCLIENT)."""
    trusted = House(tmp_path)
    said = "XCLIENT LOGIN=ann@office.test\r\n" + WHOLE.format("bob@far.test").replace("a@x.test", "ann@office.test")
    found = answers(trusted, said.encode() + b"\r\nQUIT\r\n", kind)
    assert found[-2].startswith(b"250 2.0.0 taken as"), found
    assert outside(trusted) == ["far.test"]
    trusted.database.close()
