"""What becomes of a message from its connection to its mailbox: waiting, ids, junk, through a running server."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import smtptalk

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Talk, has, submitting, USER1, USER2 = (
    smtptalk.Talk, smtptalk.has, smtptalk.submitting, smtptalk.USER1, smtptalk.USER2,
)  # fmt: skip

POLICY = """
[[rule]]
name = "junk by its subject"
when = 'subject.startsWith("junk")'
then = "junk"
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with smtptalk.serving(tmp_path_factory.mktemp("story") / "m", policy=POLICY) as made:
        yield made


# -- junk that has to wait ------------------------------------------------------------------------------------


def _only_in_junk(server: Any, subject: str, user: str = USER1) -> None:
    server.wait_for(f"delivered id={server.last_id} to={user} where=Junk")
    assert has(server, subject, user, ".Junk") and not has(server, subject, user)


def _send(server: Any, talk: Any, subject: str) -> None:
    reply = talk.data(f"Subject: {subject}\r\n\r\nx".encode())
    assert reply.startswith("250 2.0.0 taken as "), reply
    server.last_id = reply.split()[-1]


def test_junk_whose_sender_wants_to_hear_of_its_delivery(server: Any) -> None:
    with Talk(server.port(25)) as talk:
        talk.say("EHLO c.test")
        talk.say("MAIL FROM:<ann@example.net>")
        assert talk.say(f"RCPT TO:<{USER1}> NOTIFY=SUCCESS").startswith("250")
        _send(server, talk, "junk success")
    _only_in_junk(server, "junk success")


def test_junk_that_is_held_back(server: Any) -> None:
    with submitting(server) as talk:
        talk.open(USER2, USER1, mail=" HOLDFOR=1")
        _send(server, talk, "junk later")
        assert not has(server, "junk later", USER2, ".Junk")
    _only_in_junk(server, "junk later", USER2)


def test_junk_that_its_mailbox_cannot_take(server: Any) -> None:
    tmp = smtptalk.folder(server, USER1, ".Junk") / "tmp"
    shutil.rmtree(tmp)
    tmp.write_text("in the way")
    try:
        with Talk(server.port(25)) as talk:
            talk.open()
            _send(server, talk, "junk broken")
        server.wait_for(f"delivery failed id={server.last_id}")
        assert not has(server, "junk broken", USER1, ".Junk")
    finally:
        tmp.unlink()
        tmp.mkdir(mode=0o700)
    server.run("queue", "--config", str(server.config), "retry", "--all", config=False)
    _only_in_junk(server, "junk broken")
