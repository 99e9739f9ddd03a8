"""The end of a server under load: what is under way is finished, what is idle is told, and ten seconds are enough."""

from __future__ import annotations

import os
import signal
import smtplib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import installed
import pytest

pytestmark = pytest.mark.e2e
HEAD = (b"EHLO c.example\r\n", b"MAIL FROM:<a@x.example>\r\n", b"RCPT TO:<user1@office.test>\r\n", b"DATA\r\n")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    made = installed.Installed(tmp_path / "office", settings=["workers=2", 'dns.nameservers=["127.0.0.1:9"]'])
    made.add_users()
    made.start()
    yield made
    made.close()


class Client:
    """A client that says one thing at a time."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), 20)
        self.file = self.sock.makefile("rb")
        self.line()

    def line(self) -> bytes:
        while (line := self.file.readline())[3:4] == b"-":
            pass
        return line

    def say(self, data: bytes) -> bytes:
        self.sock.sendall(data)
        return self.line()

    def close(self) -> None:
        self.file.close()
        self.sock.close()


def delivered(server: Any) -> int:
    return len(list((server.folder / "data/mail/office.test/user1").glob("new/*")))


def test_mail_under_way_is_taken_and_the_idle_are_sent_away(server: Any) -> None:
    sender, idle, reader = (Client(server.port(port)) for port in (25, 25, 143))
    for command in HEAD:
        assert sender.say(command)[:1] in b"23"
    sender.sock.sendall(b"Subject: late\r\n\r\nhalf of it")
    server.signal(signal.SIGTERM)
    time.sleep(2)  # longer than the patience with idle clients
    assert sender.say(b", and the rest\r\n.\r\n").startswith(b"250 ")
    assert idle.line().startswith(b"421 4.3.2 ")
    assert reader.line().startswith(b"* BYE ")
    assert server.process.wait(20) == 0
    assert delivered(server) == 1
    for client in (sender, idle, reader):
        client.close()


def test_a_client_that_never_ends_does_not_hold_the_server_up(server: Any) -> None:
    stuck = Client(server.port(25))
    for command in HEAD:
        stuck.say(command)
    stuck.sock.sendall(b"Subject: never\r\n\r\nhalf of it")
    assert server.stop() == 0
    stuck.close()
    assert delivered(server) == 0


def test_the_sessions_of_other_workers_do_not_notice_when_one_dies(server: Any) -> None:
    clients = [smtplib.SMTP("127.0.0.1", server.port(25), timeout=20) for _ in range(12)]
    first, _ = server.workers()
    os.kill(first, signal.SIGKILL)
    server.wait_for(f"a worker died and is replaced pid={first}")
    alive = 0
    for client in clients:
        try:
            client.sendmail("a@x.example", ["user1@office.test"], b"Subject: x\r\n\r\nx\r\n")
            alive += 1
            client.quit()
        except (smtplib.SMTPServerDisconnected, ConnectionError):
            client.close()
    assert 0 < alive < 12  # the dead one had some of them: the kernel shares them out
    assert delivered(server) == alive
