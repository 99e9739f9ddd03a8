"""An IMAP server over one real Maildir on loopback, and a bare client that shows every line."""

from __future__ import annotations

import contextlib
import imaplib
import re
import socket
import ssl
from pathlib import Path
from typing import Any, ClassVar

import structlog

from mailguard.auth.accounts import Account, Directory
from mailguard.auth.accountsfile import AccountsFile
from mailguard.auth.authenticator import Authenticator
from mailguard.auth.settings import AuthSettings
from mailguard.model.event import Event
from mailguard.net.listener import Census, Listener
from mailguard.net.listening import ListenerSettings
from mailguard.net.parking import Parking
from mailguard.net.selfsigned import make_self_signed
from mailguard.net.settings import LimitSettings, TlsSettings
from mailguard.net.tls import TlsContexts
from mailguard.server.imap import ImapServer, ImapSettings
from mailguard.state.database import Database, metadata
from mailguard.state.settings import StateSettings
from mailguard.store.account import AccountStore
from mailguard.store.watch import Bell

USER, PASSWORD = "ann@office.test", "correct horse"


class Office:
    """A server on two ports: ``imap`` with STARTTLS (passwords allowed without), ``imaps``."""

    ACCOUNTS: ClassVar[dict[str, Any]] = {"account": [{"address": USER, "hide_capabilities": ["PREVIEW"]}]}

    def __init__(self, folder: Path, stack: contextlib.ExitStack, **settings: object) -> None:
        self.folder = folder
        self._listeners: list[Listener] = []
        database = Database(StateSettings(), folder)
        stack.callback(database.close)
        metadata.create_all(database.engine)
        file = AccountsFile.model_validate({"domain": [{"name": "office.test"}], **self.ACCOUNTS})
        self.directory = Directory.build(file, folder)
        self.auth = Authenticator(self.directory, database, AuthSettings())
        for entry in file.account:
            self.auth.passwords.store(entry.address, PASSWORD)
        self.store = AccountStore(folder / "mail", folder / "index.db", bell=Bell())
        stack.callback(self.store.close)
        make_self_signed(["mail.office.test", "localhost"], folder / "c.pem", folder / "k.pem")
        self.certificate = folder / "c.pem"
        tls = TlsContexts(TlsSettings(certificate=Path("c.pem"), key=Path("k.pem")), folder)
        self.events: list[Event] = []
        self.parking = Parking(structlog.get_logger())
        self.parking.start()
        stack.callback(self.parking.stop)
        server = ImapServer(
            ImapSettings.model_validate({"cleartext": True, **settings}),
            self.auth,
            self._open,
            tls,
            structlog.get_logger(),
            parking=self.parking,
            emit=self.events.append,
            pause=lambda _: None,
        )
        self.imap = self._listen(server, tls, "imap", stack)
        self.imaps = self._listen(server, tls, "imaps", stack)

    def _open(self, account: Account) -> AccountStore:
        return self.store

    def _listen(self, server: ImapServer, tls: TlsContexts, kind: str, stack: contextlib.ExitStack) -> int:
        sock = socket.create_server(("127.0.0.1", 0))
        settings = ListenerSettings.model_validate({"kind": kind})
        log = structlog.get_logger()
        listener = Listener(sock, settings, server.handle, census=Census(LimitSettings()), tls=tls, log=log)
        listener.start()
        self._listeners.append(listener)
        stack.callback(sock.close)
        stack.callback(listener.hang_up)
        stack.callback(listener.stop_accepting)
        return int(sock.getsockname()[1])

    def busy(self) -> int:
        """How many connections are open."""
        return sum(listener.busy for listener in self._listeners)

    def library(self) -> imaplib.IMAP4_SSL:
        """Python's own client, signed in."""
        client = imaplib.IMAP4_SSL("127.0.0.1", self.imaps, ssl_context=trusting(), timeout=20)
        client.login(USER, PASSWORD)
        return client

    def bare(self, *, sign_in: bool = True, user: str = USER) -> Bare:
        """A client that sends what it is told."""
        client = Bare(self.imap)
        if sign_in:
            client.ok(f'LOGIN {user} "{PASSWORD}"')
        return client


class Bare:
    """Sends commands and returns the untagged answers, each as one octet string with its literals."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.file = self.sock.makefile("rb")
        self.greeting = self.line()
        self._count = 0

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.sock.close()

    def line(self) -> bytes:
        """One answer without its last line end."""
        found = b""
        while True:
            part = self.file.readline()
            found += part
            literal = re.search(rb"\{(\d+)\}\r\n\Z", part)
            if literal is None:
                return found.removesuffix(b"\r\n")
            found += self.file.read(int(literal[1]))

    def send(self, data: bytes) -> None:
        """Octets as they are."""
        self.sock.sendall(data)

    def command(self, text: str | bytes) -> tuple[list[bytes], bytes]:
        """The untagged answers, and the tagged one without its tag. A line end in ``text`` waits for ``+``."""
        self._count += 1
        tag = b"t%d" % self._count
        data = text.encode() if isinstance(text, str) else text
        pieces = re.split(rb"(?<=\d\})\r\n", data)
        self.send(tag + b" " + pieces[0] + b"\r\n")
        untagged: list[bytes] = []
        for piece in pieces[1:]:
            line = self.line()
            if not line.startswith(b"+"):
                return untagged, line.removeprefix(tag + b" ")
            self.send(piece + b"\r\n")
        while True:
            line = self.line()
            if line.startswith(tag + b" "):
                return untagged, line[len(tag) + 1 :]
            assert line, f"closed while {data[:60]!r} was waiting"
            untagged.append(line)

    def ok(self, text: str | bytes) -> list[bytes]:
        """The untagged answers of a command that must succeed."""
        untagged, result = self.command(text)
        assert result.startswith(b"OK"), (text, result)
        return untagged

    def append(self, mailbox: str, message: bytes, options: str = "") -> bytes:
        """Appends one message; returns the tagged answer."""
        return self.command(b"APPEND %b %b{%d}\r\n%b" % (mailbox.encode(), options.encode(), len(message), message))[1]


def trusting() -> ssl.SSLContext:
    """A client context that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
