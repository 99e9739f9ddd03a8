"""The SMTP service of one process on a data folder of its own, and a conversation with it over a socket pair."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
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
SPOOL_OVER = 128 * 1024  # octets


class House:
    """The SMTP service on a data folder of its own. It believes XCLIENT LOGIN of those in ``trusts``."""

    def __init__(self, folder: Path, *, trusts: tuple[str, ...] = ("127.0.0.1",)) -> None:
        folder.mkdir(exist_ok=True)
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
        settings = SmtpSettings(size_limit=1 << 30, spool_over=SPOOL_OVER, xclient_from=trusts)
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

    def serve(self, ours: socket.socket, kind: str = "smtp") -> None:
        """One connection to its end, as a listener of this kind would have it."""
        stream = Stream(ours)
        self.service.handle(
            stream, Peer("127.0.0.1", 1, "127.0.0.1", 25), ListenerSettings.model_validate({"kind": kind})
        )
        stream.close()

    def spooled(self) -> list[int]:
        """The sizes of the spool files that this process has open; they have no name any more."""
        links = [path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        return [1 for link in links if str(link).startswith(str(self.folder / "spool"))]


def converse(house: House, login: str, message: Iterable[bytes], halfway: Callable[[], Any]) -> str:
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
