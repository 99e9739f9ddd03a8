"""POP3 over loopback sockets and real Maildirs, with poplib, curl and fetchmail as clients."""

from __future__ import annotations

import base64
import contextlib
import poplib
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from scramp import ScramClient

from mailguard.auth.accounts import Account, Directory
from mailguard.auth.accountsfile import AccountsFile
from mailguard.auth.authenticator import Authenticator
from mailguard.auth.settings import AuthSettings
from mailguard.net.listener import Census, Listener
from mailguard.net.listening import ListenerSettings
from mailguard.net.selfsigned import make_self_signed
from mailguard.net.settings import LimitSettings, TlsSettings
from mailguard.net.tls import TlsContexts
from mailguard.protocol.pop3.downgrade import downgraded
from mailguard.server.pop3 import Pop3Server, Pop3Settings
from mailguard.state.database import Database, metadata
from mailguard.state.settings import StateSettings
from mailguard.store.account import AccountStore

USER, PASSWORD = "ann@office.test", "correct horse"
MAIL = b"From: bob@example.org\r\nTo: ann@office.test\r\nSubject: hello\r\n\r\n.dot\r\nend\r\n"


class Office:
    """A POP3 server on two ports over one account."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        database = Database(StateSettings(), folder)
        stack.callback(database.close)
        metadata.create_all(database.engine)
        file = AccountsFile.model_validate({"domain": [{"name": "office.test"}], "account": [{"address": USER}]})
        self.auth = Authenticator(Directory.build(file, folder), database, AuthSettings())
        self.auth.passwords.store(USER, PASSWORD)
        self.store = AccountStore(folder / "mail", folder / "index.db")
        stack.callback(self.store.close)
        make_self_signed(["mail.office.test", "localhost"], folder / "c.pem", folder / "k.pem")
        self.certificate = folder / "c.pem"
        tls = TlsContexts(TlsSettings(certificate=Path("c.pem"), key=Path("k.pem")), folder)
        self.refusals: list[float] = []
        server = Pop3Server(
            Pop3Settings(), self.auth, self._open, tls, structlog.get_logger(), pause=self.refusals.append
        )
        self.pop3 = self._listen(server, tls, "pop3", stack)
        self.pop3s = self._listen(server, tls, "pop3s", stack)

    def _open(self, account: Account) -> AccountStore:
        return self.store

    def _listen(self, server: Pop3Server, tls: TlsContexts, kind: str, stack: contextlib.ExitStack) -> int:
        sock = socket.create_server(("127.0.0.1", 0))
        settings = ListenerSettings.model_validate({"kind": kind})
        log = structlog.get_logger()
        listener = Listener(sock, settings, server.handle, census=Census(LimitSettings()), tls=tls, log=log)
        listener.start()
        stack.callback(sock.close)
        stack.callback(listener.hang_up)
        stack.callback(listener.stop_accepting)
        return int(sock.getsockname()[1])

    def client(self) -> poplib.POP3_SSL:
        return poplib.POP3_SSL("127.0.0.1", self.pop3s, context=trusting(), timeout=20)

    def signed_in(self) -> poplib.POP3_SSL:
        client = self.client()
        client.user(USER)
        client.pass_(PASSWORD)
        return client


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with contextlib.ExitStack() as stack:
        yield Office(tmp_path, stack)


def test_read_and_delete(office: Office) -> None:
    for _ in range(3):
        office.store.deliver([MAIL])
    client = office.signed_in()
    assert client.stat() == (3, 3 * len(MAIL))
    _, lines, octets = client.retr(1)
    assert b"\r\n".join(lines) + b"\r\n" == MAIL
    assert octets == int(client.list(1).split()[2])
    assert client.top(2, 1)[1][-1] == b".dot"
    inbox = office.store.mailbox("INBOX")
    validity = inbox.status().uid_validity
    assert client.uidl()[1] == [f"{n} {n:08x}{validity:08x}".encode() for n in (1, 2, 3)]
    client.dele(2)
    client.quit()
    assert inbox.uids() == [1, 3]
    assert "\\Seen" not in str(inbox.rows(None, ("flags",)))


def test_a_dropped_connection_deletes_nothing_and_frees_the_maildrop(office: Office) -> None:
    office.store.deliver([MAIL])
    client = office.signed_in()
    client.dele(1)
    client.close()
    for _ in range(200):
        second = office.client()
        second.user(USER)
        with contextlib.suppress(poplib.error_proto):
            second.pass_(PASSWORD)
            break
        second.close()
    assert second.stat()[0] == 1
    second.quit()


def test_one_session_at_a_time_while_mail_arrives_and_goes(office: Office) -> None:
    for _ in range(2):
        office.store.deliver([MAIL])
    client = office.signed_in()
    second = office.client()
    second.user(USER)
    with pytest.raises(poplib.error_proto, match=r"\[IN-USE\]"):
        second.pass_(PASSWORD)
    second.close()
    office.store.deliver([MAIL])
    office.store.mailbox("INBOX").remove([1])
    assert client.stat()[0] == 2
    with pytest.raises(poplib.error_proto, match="removed by another program"):
        client.retr(1)
    client.dele(1)
    client.dele(2)
    client.quit()
    assert office.store.mailbox("INBOX").uids() == [3]


def test_a_message_renamed_by_another_program_is_still_read(office: Office) -> None:
    office.store.deliver([MAIL.replace(b"\r\n", b"\n")])
    client = office.signed_in()
    office.store.mailbox("INBOX").store([1], "+", ["\\Seen"])
    assert b"\r\n".join(client.retr(1)[1]) + b"\r\n" == MAIL
    client.quit()


def test_a_maildrop_that_vanishes_is_told_and_the_connection_lives(office: Office, tmp_path: Path) -> None:
    office.store.deliver([MAIL])
    client = office.signed_in()
    shutil.rmtree(tmp_path / "mail" / "cur")
    for command in (lambda: client.retr(1), lambda: client.top(1, 0)):
        with pytest.raises(poplib.error_proto, match="cannot be read now"):
            command()
    client.dele(1)
    with pytest.raises(poplib.error_proto, match="-ERR"):
        client.quit()
    client.close()
    again = office.client()
    again.user(USER)
    with pytest.raises(poplib.error_proto, match=r"SYS/TEMP\].*cannot be opened now"):
        again.pass_(PASSWORD)
    again.close()


def test_passwords_only_inside_tls(office: Office) -> None:
    client = poplib.POP3("127.0.0.1", office.pop3, timeout=20)
    assert "USER" not in client.capa() and "SASL" not in client.capa()
    with pytest.raises(poplib.error_proto, match="STLS"):
        client.user(USER)
    client.stls(trusting())
    assert client.capa()["SASL"] == ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN"]
    client.user(USER)
    client.pass_(PASSWORD)
    client.quit()


def test_a_wrong_password_is_told_apart_and_held_back(office: Office) -> None:
    client = office.client()
    client.user(USER)
    with pytest.raises(poplib.error_proto, match=r"\[AUTH\] wrong name or password"):
        client.pass_("no")
    assert office.refusals == [1.0]
    client.close()


def scram(client: poplib.POP3, password: str) -> bytes:
    exchange = ScramClient(["SCRAM-SHA-256"], USER, password)
    first = base64.b64encode(exchange.get_client_first().encode()).decode()
    client.sock.sendall(f"AUTH SCRAM-SHA-256 {first}\r\n".encode())
    exchange.set_server_first(base64.b64decode(client.file.readline().split()[1]).decode())
    client.sock.sendall(base64.b64encode(exchange.get_client_final().encode()) + b"\r\n")
    line = client.file.readline()
    if line.startswith(b"+ "):
        exchange.set_server_final(base64.b64decode(line.split()[1]).decode())
        client.sock.sendall(b"\r\n")
        line = client.file.readline()
    return bytes(line)


def test_scram(office: Office) -> None:
    client = office.client()
    assert scram(client, "wrong").startswith(b"-ERR [AUTH]")
    assert scram(client, PASSWORD).startswith(b"+OK")
    client.quit()


def test_pipelined_commands_are_answered_in_order(office: Office) -> None:
    office.store.deliver([MAIL])
    client = office.client()
    client.sock.sendall(f"USER {USER}\r\nPASS {PASSWORD}\r\nSTAT\r\nRETR 1\r\nQUIT\r\n".encode())
    assert client.file.read().endswith(b"end\r\n.\r\n+OK bye\r\n")
    client.close()


def test_curl(office: Office, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if not curl:
        pytest.skip("curl is not installed")
    office.store.deliver([MAIL])
    done = subprocess.run(
        [curl, "-sS", "--cacert", office.certificate, "--ssl-reqd", f"pop3://localhost:{office.pop3}/1", "-u",
         f"{USER}:{PASSWORD}"],
        capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == MAIL


@pytest.mark.e2e
def test_fetchmail(office: Office, tmp_path: Path) -> None:
    fetchmail = shutil.which("fetchmail")
    if not fetchmail:
        pytest.skip("fetchmail is not installed")
    for _ in range(5):
        office.store.deliver([MAIL])
    rc = tmp_path / "fetchmailrc"
    rc.write_text(
        f'poll localhost port {office.pop3s} protocol pop3 user "{USER}" password "{PASSWORD}" ssl '
        f"sslcertfile {office.certificate} sslcertck mda \"/bin/sh -c 'cat >>{tmp_path}/mbox'\" nokeep\n"
    )
    rc.chmod(0o600)
    done = subprocess.run(
        [fetchmail, "-f", rc, "--nosyslog", "--pidfile", tmp_path / "pid"],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "FETCHMAILHOME": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "mbox").read_text().count("Subject: hello") == 5
    assert office.store.mailbox("INBOX").uids() == []


def test_headers_in_utf8_are_downgraded_for_those_who_did_not_ask() -> None:
    raw = "From: Jürgen <jürgen@büro.test>\r\nSubject: Grüße\r\nX-Id: 1\r\n\r\nBöd\r\n".encode()
    out = downgraded(raw)
    header, body = out.split(b"\r\n\r\n")
    assert header.isascii() and b"invalid@internationalized-address.invalid" in header
    assert b"=?utf-8?" in header and b"X-Id: 1" in header
    assert body == "Böd\r\n".encode()
    assert downgraded(b"Subject: x\r\n\r\n\xff") == b"Subject: x\r\n\r\n\xff"
    latin = b"Subject: Gr\xfc\xdfe\r\n\r\n"
    assert downgraded(latin) == latin
