"""A client that does not wait for our greeting: policies know of it."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest
import smtphouse
import structlog

from mailguard.pipeline.compiler import parse_policy
from mailguard.pipeline.engine import Engine
from mailguard.pipeline.registry import Registry
from mailguard.testing import FakeResolver

RULE = '[[rule]]\nname = "hasty"\nwhen = \'client.early\'\nthen = "reject"\n'
HELLO, MAIL = b"EHLO c.test\r\n", b"MAIL FROM:<ann@example.net>\r\n"


@pytest.fixture
def house(tmp_path: Path) -> smtphouse.House:
    made = smtphouse.House(tmp_path, trusts=())
    made.service.engine = Engine(
        parse_policy("policy.toml", RULE, Registry().load),
        dns=FakeResolver(),
        store_for=lambda name: pytest.fail(name),
        state_dir=tmp_path,
        hostname="mx.test",
        log=structlog.get_logger(),
    )
    return made


@pytest.mark.parametrize("early", [True, False])
def test_who_speaks_before_the_greeting_is_known_for_it(house: smtphouse.House, early: bool) -> None:
    ours, theirs = socket.socketpair()
    if early:
        theirs.sendall(HELLO)
    thread = threading.Thread(target=house.serve, args=(ours,))
    thread.start()
    with theirs, theirs.makefile("rb") as replies:
        assert replies.readline().startswith(b"220")
        theirs.sendall(MAIL if early else HELLO + MAIL)
        while (reply := replies.readline())[:4] in (b"250-", b"250 ") and b"2.1.0" not in reply:
            pass
    thread.join(30)
    assert reply.startswith(b"550 5.7.1 refused by our policy: hasty" if early else b"250 2.1.0"), reply
