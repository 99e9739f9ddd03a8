"""A large message on its way through: from the spool threshold on it lies on disk, and memory stays as it is."""

from __future__ import annotations

import socket
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import structlog

from mailguard.auth.accounts import Directory
from mailguard.auth.accountsfile import AccountsFile
from mailguard.auth.authenticator import Authenticator
from mailguard.auth.settings import AuthSettings
from mailguard.delivery.allowance import Allowance
from mailguard.delivery.dkimkey import DkimKeys
from mailguard.delivery.forward import Forwarder
from mailguard.delivery.intake import Intake
from mailguard.delivery.local import LocalDelivery
from mailguard.delivery.queue import Queue
from mailguard.delivery.router import Router
from mailguard.delivery.signing import Signer
from mailguard.delivery.submission_settings import SubmissionSettings
from mailguard.net.listener import Peer
from mailguard.net.listening import ListenerSettings
from mailguard.net.stream import Stream
from mailguard.pipeline.engine import Engine
from mailguard.pipeline.policy import Policy
from mailguard.server.smtp import SmtpService
from mailguard.server.smtp_settings import SmtpSettings
from mailguard.server.smtptransaction import Desk
from mailguard.state.database import Database
from mailguard.state.migrate import prepare
from mailguard.state.settings import StateSettings
from mailguard.store.mailstore import MailStore
from mailguard.testing import FakeResolver

FILE = {"domain": [{"name": "office.test"}], "account": [{"address": "ann@office.test"}]}
SPOOL_OVER = 128 * 1024
LINE = b"x" * 74 + b"\r\n"
ROOM = 6 << 20  # octets; pieces of 1 MiB are copied here and there, the message has many more


class House:
    """The SMTP service on a data folder of its own. Who says XCLIENT LOGIN is signed in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = Database(StateSettings(), folder)
        prepare(self.database)
        DkimKeys(folder / "dkim").add("office.test")
        log, queue = structlog.get_logger(), Queue(self.database, folder / "queue")
        directory = Directory.build(AccountsFile.model_validate(FILE), folder)
        router, forwarder = Router(directory), Forwarder(queue, None)
        stores = MailStore(folder / "index", "mx.test")
        local = LocalDelivery(router, lambda a: stores.open(a.key, a.maildir), log, forwarder, queue=queue)
        ids = count()
        settings = SmtpSettings(size_limit=1 << 30, spool_over=SPOOL_OVER, xclient_from=("127.0.0.1",))
        submission = SubmissionSettings()
        desk = Desk(
            settings,
            submission,
            "mx.test",
            router=router,
            intake=Intake(local, forwarder, queue),
            local=local,
            allowance=Allowance(self.database, submission),
            sign=Signer(folder / "dkim").sign,
            spool=folder / "spool",
            emit=lambda event: None,
            new_id=lambda: f"s{next(ids)}",
            log=log,
        )
        engine = Engine(
            Policy(),
            dns=FakeResolver(),
            store_for=lambda name: pytest.fail(name),
            state_dir=folder,
            hostname="mx.test",
            log=log,
        )
        authenticator = Authenticator(directory, self.database, AuthSettings())
        self.service = SmtpService(desk, engine=engine, authenticator=authenticator, tls=None)

    def serve(self, ours: socket.socket) -> None:
        """One connection to its end."""
        stream = Stream(ours)
        self.service.handle(stream, Peer("127.0.0.1", 1, "127.0.0.1", 25), ListenerSettings(kind="smtp"))
        stream.close()

    def spooled(self) -> list[int]:
        """The sizes of the spool files that this process has open; they have no name any more."""
        links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return [1 for link in links if str(link).startswith(str(self.folder / "spool"))]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.database.close()


def converse(house: House, login: str, message: Iterator[bytes], halfway: Callable[[], Any]) -> str:
    """Sends a message; calls ``halfway`` when all of it but its end is on its way. The reply to it."""
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=house.serve, args=(ours,))
    thread.start()
    with theirs, theirs.makefile("rb") as replies:

        def say(line: bytes) -> str:
            theirs.sendall(line + b"\r\n")
            while (reply := replies.readline())[3:4] == b"-":
                pass
            return reply.decode().strip()

        replies.readline()
        said = [say(b"XCLIENT ADDR=192.0.2.1 LOGIN=" + login.encode()), say(b"EHLO c.test")]
        said += [say(b"MAIL FROM:<ann@office.test>"), say(b"RCPT TO:<ann@office.test>"), say(b"DATA")]
        assert [reply[:3] for reply in said] == ["220", "250", "250", "250", "354"], said
        for piece in message:
            theirs.sendall(piece)
        halfway()
        reply = say(b".")
        say(b"QUIT")
    thread.join(60)
    assert not thread.is_alive()
    return reply


def large(octets: int, first: bytes) -> Iterator[bytes]:
    yield b"From: ann@office.test\r\nSubject: large\r\nBcc: nobody@x.test\r\n\r\n" + first
    block = LINE * 800
    for _ in range(octets // len(block)):
        yield block


@pytest.mark.parametrize(
    ("login", "first"),
    [("", b""), ("ann@office.test", b""), ("ann@office.test", b"y" * 5000 + b"\r\n")],
    ids=["from outside", "submitted and signed", "submitted, folded and signed"],
)
def test_memory_does_not_grow_with_the_message(house: House, login: str, first: bytes) -> None:
    spooled: list[int] = []
    assert converse(house, login, large(200_000, first), lambda: None).startswith("250")  # what is made once is made
    tracemalloc.start()
    try:
        reply = converse(house, login, large(24 << 20, first), lambda: spooled.extend(house.spooled()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reply.startswith("250 2.0.0 taken as") and spooled
    assert peak < ROOM, f"{peak >> 20} MiB at the most"
    largest = max((house.folder / "mail/office.test/ann/new").iterdir(), key=lambda path: path.stat().st_size)
    raw = largest.read_bytes()
    assert raw.endswith(LINE * 800) and (b"DKIM-Signature:" in raw) is bool(login)
    assert (b"nobody@x.test" in raw) is not bool(login) and raw.count(LINE) > (24 << 20) // len(LINE) - 900
    assert list((house.folder / "spool").iterdir()) == []


def test_a_small_message_needs_no_spool(house: House) -> None:
    spooled: list[int] = []
    message = iter([b"Subject: small\r\n\r\n" + LINE * 100])
    assert converse(house, "", message, lambda: spooled.extend(house.spooled())).startswith("250")
    assert not spooled and not (house.folder / "spool").exists()
