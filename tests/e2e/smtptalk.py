"""A bare SMTP client: says octets, shows whole replies; and an office to talk to."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import installed

USER1, USER2 = installed.USERS
PASSWORD = installed.PASSWORD
NO_DNS = 'dns.nameservers=["127.0.0.1:9"]'


def unchecked() -> ssl.SSLContext:
    """A TLS context for a self-signed server."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Talk:
    """One connection. ``say`` sends a line and returns the whole reply."""

    def __init__(self, where: int | str, *, tls: bool = False, timeout: float = 30) -> None:
        if isinstance(where, str):
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(timeout)
            sock.connect(where)
        else:
            sock = socket.create_connection(("127.0.0.1", where), timeout=timeout)
        self.sock: socket.socket = unchecked().wrap_socket(sock) if tls else sock
        self._got = b""
        self.greeting = self.reply()

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, octets: bytes) -> None:
        """Sends as it is."""
        self.sock.sendall(octets)

    def reply(self) -> str:
        """The next whole reply, lines joined by ``|``; ``""`` once the server has closed."""
        lines: list[str] = []
        while True:
            line, found, rest = self._got.partition(b"\r\n")
            if found:
                self._got = rest
                lines.append(line.decode())
                if line[3:4] != b"-":
                    return "|".join(lines)
                continue
            data = b""
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                data = self.sock.recv(65536)
            if not data:
                return "|".join(lines)
            self._got += data

    def say(self, line: str) -> str:
        """One line, one reply."""
        self.send(line.encode() + b"\r\n")
        return self.reply()

    def start_tls(self) -> None:
        """STARTTLS, and EHLO again."""
        assert self.say("STARTTLS").startswith("220")
        self.sock = unchecked().wrap_socket(self.sock)
        self.say("EHLO c.test")

    def sign_in(self, user: str = USER1, password: str = PASSWORD) -> str:
        """AUTH PLAIN."""
        return self.say("AUTH PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode())

    def open(self, rcpt: str = USER1, sender: str = "ann@example.net", *, mail: str = "", hello: str = "EHLO") -> None:
        """EHLO, MAIL and RCPT, all good."""
        assert self.say(f"{hello} c.test").startswith("250")
        assert self.say(f"MAIL FROM:<{sender}>{mail}").startswith("250")
        assert self.say(f"RCPT TO:<{rcpt}>").startswith("250")

    def data(self, message: bytes) -> str:
        """DATA with this message; the reply to it."""
        assert self.say("DATA").startswith("354")
        self.send(message + b"\r\n.\r\n")
        return self.reply()


def submitting(server: Any, *, user: str = USER1) -> Talk:
    """A connection to port 465, signed in."""
    talk = Talk(server.port(465), tls=True)
    talk.say("EHLO c.test")
    assert talk.sign_in(user).startswith("235")
    return talk


def folder(server: Any, user: str, box: str = "") -> Path:
    """A Maildir of a sample user."""
    path: Path = server.folder / "data/mail/office.test" / user.partition("@")[0] / box
    return path


def mails(server: Any, user: str, box: str = "") -> list[bytes]:
    """The messages in it, oldest first."""
    root = folder(server, user, box)
    paths = [path for name in ("new", "cur") if (root / name).is_dir() for path in (root / name).iterdir()]
    return [path.read_bytes() for path in sorted(paths, key=lambda p: p.name)]


def leftovers(server: Any) -> list[str]:
    """What half-done deliveries left: files in ``tmp`` and in the spool, queue bodies without rows."""
    data = server.folder / "data"
    found = [str(path) for path in data.glob("mail/*/*/tmp/*")]
    return found + [str(path) for path in data.glob("spool/*")]


@contextlib.contextmanager
def serving(folder: Path, *settings: str, policy: str = "", plugin: str = "", accounts: str = "") -> Iterator[Any]:
    """A running server on this folder, with this policy, this loose plugin and these accounts."""
    made = installed.Installed(folder, settings=[NO_DNS, *settings])
    (folder / "policy.toml").write_text(policy)
    if plugin:
        (folder / "plugins").mkdir()
        name = plugin.partition('PluginInfo("')[2].partition('"')[0]
        (folder / f"plugins/{name}.py").write_text(plugin)
    if accounts:
        (folder / "accounts.toml").write_text(accounts)
        for user in installed.USERS:
            made.run("user", "passwd", user, "--password-stdin", stdin=PASSWORD + "\n")
    else:
        made.add_users()
    try:
        made.start()
        yield made
        made.stop()
    finally:
        made.close()


def send(server: Any, subject: str, *, rcpt: str = USER1, size: int = 100, timeout: float = 60) -> str:
    """The reply to a whole message."""
    with Talk(server.port(25), timeout=timeout) as talk:
        talk.open(rcpt)
        reply: str = talk.data(f"Subject: {subject}\r\n\r\n".encode() + b"line of text\r\n" * (size // 14))
        return reply


def has(server: Any, subject: str, user: str = USER1, box: str = "") -> bool:
    """Whether a mailbox holds a message of this subject."""
    return any(f"Subject: {subject}\r\n".encode() in raw for raw in mails(server, user, box))
