"""Thunderbird stays open while its office moves from Dovecot to mailguard and back, and loads no message again."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dovecot
import installed
import pytest
import test_dovecot
import thunderbird

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]
pytestmark.append(pytest.mark.skipif(bool(thunderbird.missing()), reason=f"{thunderbird.missing()} is not installed"))

USER = installed.USERS[0]
INBOX = """const {MailServices} = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
let server = MailServices.accounts.accounts.find(a => a.incomingServer.type == "imap").incomingServer;
let inbox = server.rootFolder.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox);
"""
SIGN_IN = """let login = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
login.init("imap://127.0.0.1", null, "imap://127.0.0.1", arguments[0], arguments[1], "", "");
Services.logins.addLoginAsync(login);
"""
LOOK = "if (inbox) inbox.updateFolder(null); else server.performExpand(null); return !!inbox"
LOAD = "inbox.downloadAllForOffline(null, null)"
# What it knows of every message: UID, whether it is here, read, flagged, answered, and its keywords.
STATE = """let rows = []; for (let m of inbox.messages) rows.push([m.messageKey, !!(m.flags & 0x80), m.isRead,
m.isFlagged, !!(m.flags & 2), (m.getStringProperty("keywords") || "").split(" ").filter(k => k).sort().join(" ")]);
return rows.sort((a, b) => a[0] - b[0])"""


# The mailbox that a connection selects, or the messages whose bodies it asks for.
_COMMAND = re.compile(rb'(?im)^\S+ (?:SELECT "([^"]+)"|UID FETCH ([\d,:]+) \([^\r\n]*BODY(?:\.PEEK)?\[\])')


class Way(thunderbird.Proxy):
    """One address for two servers, one after the other."""

    def __init__(self) -> None:
        self.target = 0
        self._asked: list[bytearray] = []  # the client's commands to the present server, by connection
        self._open: list[socket.socket] = []
        super().__init__()

    def to(self, port: int) -> None:
        """From now on it leads there."""
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._open, self.target, self._asked = [], port, []

    def close(self) -> None:
        self.to(0)
        super().close()

    def serve(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self.target)) as server:
            asked = bytearray()
            self._open += [client, server]
            self._asked.append(asked)
            thunderbird.join(client, server, asked.extend)

    def loaded(self) -> set[int]:
        """The UIDs of the INBOX whose bodies were asked for; it looks through other mailboxes when it likes."""
        found: set[int] = set()
        for asked in self._asked:
            mailbox = b""
            for name, uids in _COMMAND.findall(asked):
                mailbox = name or mailbox
                for part in uids.split(b",") if mailbox == b"INBOX" and uids else ():
                    first, _, last = part.partition(b":")
                    found |= set(range(int(first), int(last or first) + 1))
        return found


@pytest.fixture
def way() -> Iterator[Way]:
    made = Way()
    yield made
    made.close()


@pytest.fixture
def client(tmp_path: Path, way: Way) -> Iterator[Any]:
    server, identity = "mail.server.server1.", "mail.identity.id1."
    settings = {
        "mail.accountmanager.accounts": "account1", "mail.accountmanager.defaultaccount": "account1",
        "mail.account.account1.server": "server1", "mail.account.account1.identities": "id1",
        server + "type": "imap", server + "hostname": "127.0.0.1", server + "port": way.port,
        server + "userName": USER, server + "socketType": 0, server + "authMethod": 3, server + "name": "office",
        server + "login_at_startup": False, server + "check_new_mail": False, server + "offline_download": True,
        server + "use_compress_deflate": False,  # so that its commands can be read on their way
        identity + "useremail": USER, identity + "fullName": "User One", identity + "valid": True,
    }  # fmt: skip
    made = thunderbird.Thunderbird(tmp_path / "t", None, **settings)
    yield made
    made.close()


folder, old = test_dovecot.folder, test_dovecot.old


@pytest.fixture
def office(folder: Path) -> Iterator[Any]:
    made = installed.Installed(
        folder / "m", settings=['dns.nameservers=["127.0.0.1:9"]', "workers=2", "imap.cleartext=true"]
    )
    for user in installed.USERS[:1]:
        made.run("user", "add", user, "--password-stdin", stdin=installed.PASSWORD + "\n")
    yield made
    made.close()


def known(client: Any, count: int) -> Any:
    """What it knows once so many messages are there with their bodies."""
    client.wait(INBOX + LOOK)
    client.wait(INBOX + f"return [...inbox.messages].length == {count} || (inbox.updateFolder(null), false)")
    client.run(INBOX + LOAD)
    client.wait(INBOX + "return [...inbox.messages].every(m => m.flags & 0x80)")
    return client.run(INBOX + STATE)


def test_thunderbird_loads_nothing_again(
    monkeypatch: pytest.MonkeyPatch, office: Any, old: Any, client: Any, way: Way
) -> None:
    password = installed.PASSWORD
    old.stop()
    old.config.write_text(old.config.read_text().replace(f"password={dovecot.PASSWORD}", f"password={password}"))
    old.start()
    monkeypatch.setattr(dovecot, "PASSWORD", password)
    imap = test_dovecot.to_dovecot(old)
    test_dovecot.fill(imap, 60, seed=3)
    there = len(test_dovecot.state(imap)[0]["INBOX"])
    imap.logout()
    assert there > 5
    way.to(old.imap)
    client.run(SIGN_IN, USER, password)
    before = known(client, there)
    assert way.loaded() == {row[0] for row in before}

    old.stop()
    subprocess.run(["chown", "-R", "0:0", str(old.mail)], check=True)
    office.run("adopt", str(old.mail / "user1"), USER)
    office.start()
    way.to(office.port(143))
    imap = test_dovecot.to_mailguard(office)
    imap.append("INBOX", None, None, test_dovecot.mail(1000))
    after = known(client, there + 1)
    new = {row[0] for row in after} - {row[0] for row in before}
    assert after[:there] == before and way.loaded() == new
    # Something to tell Dovecot of: a flag and a message.
    imap.select("INBOX")
    imap.uid("STORE", str(before[0][0]), "+FLAGS", "(\\Flagged)")
    imap.append("INBOX", None, None, test_dovecot.mail(1001))
    there += 2
    before = known(client, there)
    client.wait(INBOX + f"return [...inbox.messages].find(m => m.messageKey == {before[0][0]}).isFlagged")
    before = client.run(INBOX + STATE)
    imap.logout()
    assert office.stop() == 0

    old.start()
    way.to(old.imap)
    imap = test_dovecot.to_dovecot(old)
    imap.append("INBOX", None, None, test_dovecot.mail(1002))
    imap.logout()
    after = known(client, there + 1)
    new = {row[0] for row in after} - {row[0] for row in before}
    assert after[:there] == before and way.loaded() == new
