"""What becomes of a message from its connection to its mailbox: waiting, ids, junk, through a running server."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import smtptalk

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Talk, has, submitting, USER1, USER2 = (
    smtptalk.Talk, smtptalk.has, smtptalk.submitting, smtptalk.USER1, smtptalk.USER2,
)  # fmt: skip

POLICY = """
[[check]]
plugin = "talkative"
roles = ["mx", "submission"]
deadline = 1
[[rule]]
name = "junk by its subject"
when = 'subject.startsWith("junk")'
then = "junk"
"""

TALKATIVE = """
from mailguard.plugin import PluginInfo, hookimpl

@hookimpl
def describe():
    return PluginInfo("talkative", words={"ok": "accept"})

@hookimpl
def check_sender(ctx, envelope):
    ctx.log.info("a plugin speaks")
    if envelope.mail_from and envelope.mail_from.local == "breaks":
        raise ValueError("as the test wants it")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with smtptalk.serving(tmp_path_factory.mktemp("story") / "m", policy=POLICY, plugin=TALKATIVE) as made:
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
    with Talk(server.port(25)) as talk:
        talk.open()
        _send(server, talk, "junk before")
    server.wait_for(f"delivered id={server.last_id}")  # the mailbox is there
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


# -- one id through everything --------------------------------------------------------------------------------


def _lines_since(server: Any, mark: int) -> list[str]:
    """What was logged since then, but for what background jobs say."""
    background = ("ready", "runs the queue", "the DNS", "looked at our DNS", "DKIM is not in order")
    return [line for line in server.log[mark:] if not any(text in line for text in background)]


def test_every_line_of_a_connection_carries_its_id(tmp_path: Path) -> None:
    with smtptalk.serving(tmp_path / "m", "workers=1", policy=POLICY, plugin=TALKATIVE) as server:
        _converse_and_look(server)


def _converse_and_look(server: Any) -> None:
    mark = len(server.log)
    with Talk(server.port(587)) as talk:
        talk.say("EHLO c.test")
        talk.start_tls()
        assert talk.sign_in(password="wrong").startswith("535")
        assert talk.sign_in().startswith("235")
        talk.open(USER2, USER1)
        talk.say("RCPT TO:<nobody@office.test>")
        talk.say("RCPT TO:<bob@elsewhere.test>")
        first = talk.data(b"Subject: first\r\n\r\nx").split()[-1]
        talk.open(USER2, USER1)
        second = talk.data(b"Subject: second\r\n\r\nx").split()[-1]
        talk.open(USER2, USER1)
        talk.say("DATA")
    session = first.rpartition("-")[0]
    assert (first, second) == (f"{session}-1", f"{session}-2")
    server.wait_for_each(
        f"deferred id={first} to=bob@elsewhere.test",  # by the queue, in another thread
        f"connection lost in the middle of a message id={session}-3",
    )
    lines = _lines_since(server, mark)
    for what in ("sign-in failed", "signed in", "refused at recipient", "accepted", "delivered", "a plugin speaks"):
        assert any(what in line for line in lines), (what, lines)
    assert [line for line in lines if session not in line] == []
    (file,) = [p for p in (smtptalk.folder(server, USER2) / "new").iterdir() if f"I{first}." in p.name]
    assert first in server.run("why", str(file)).stdout
    told = server.run("why", session).stdout
    assert first in told and second in told and "nobody@office.test" in told


def test_a_plugin_that_fails_and_a_handshake_that_fails_name_their_connection(server: Any) -> None:
    mark = len(server.log)
    with Talk(server.port(25)) as talk:
        talk.open(USER1, "breaks@example.net")
        ident = talk.data(b"Subject: breaks\r\n\r\nx").split()[-1]
    server.wait_for(f"delivered id={ident}")
    failed = [line for line in server.log[mark:] if "a plugin failed" in line]
    assert failed and all(ident.rpartition("-")[0] in line for line in failed)
    with socket.create_connection(("127.0.0.1", server.port(465)), timeout=30) as sock:
        sock.sendall(b"EHLO nonsense\r\n" * 10)
        server.wait_for("TLS handshake failed kind=submissions peer=127.0.0.1 id=")
