"""Thunderbird sets itself up from an address and a password alone, then reads mail and sends some.

Pictures go into the folder ``MAILGUARD_PICTURES`` names, for people to look at.
"""

from __future__ import annotations

import datetime
import os
import smtplib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import installed
import pytest
import thunderbird
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


pytestmark.append(pytest.mark.skipif(bool(thunderbird.missing()), reason=f"{thunderbird.missing()} is not installed"))
NAMES = ("mail.office.test", "autoconfig.office.test", "autodiscover.office.test", "office.test")
SERVICES = """const {MailServices} = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
let account = MailServices.accounts.accounts.find(a => a.incomingServer.type == "imap");
let server = account?.incomingServer; let folders = server?.rootFolder;
"""
DETAILS = """let smtp = MailServices.outgoingServer.getServerByKey(account.defaultIdentity.smtpServerKey);
return [server.hostName ?? server.hostname, server.port,
  server.socketType, server.authMethod, server.username, smtp.serverURI.spec];"""
SEND = """let id = account.defaultIdentity;
let fields = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
fields.from = id.email; fields.to = arguments[0]; fields.subject = "From Thunderbird"; fields.body = "Hello there\\n";
let params = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
params.composeFields = fields; params.identity = id; params.type = Ci.nsIMsgCompType.New;
params.format = Ci.nsIMsgCompFormat.PlainText;
MailServices.compose.initCompose(params, null).sendMsg(Ci.nsIMsgCompDeliverMode.Now, id, account.key, null, null);"""
SHOW = """let pane = document.getElementById("tabmail").currentAbout3Pane;
pane.displayFolder(folders.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox).URI);
pane.threadTree.selectedIndex = 0;
return pane.messageBrowser.contentWindow.getMessagePaneBrowser?.()?.contentDocument?.body?.textContent;"""


def certificate(name: str, key: Any, issuer: Any, issuer_key: Any, names: tuple[str, ...] = ()) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer.subject if issuer else subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(90))
    builder = builder.add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, names))), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


@pytest.fixture
def office(tmp_path: Path) -> Iterator[tuple[Any, bytes]]:
    """A server with a certificate of a CA, and the CA."""
    server = installed.Installed(tmp_path / "m", settings=['dns.nameservers=["127.0.0.1:9"]', "workers=1"])
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    authority = certificate("Office CA", keys[0], None, keys[0])
    own = certificate("mail.office.test", keys[1], authority, keys[0], NAMES)
    pem = [each.public_bytes(serialization.Encoding.PEM) for each in (own, authority)]
    (server.folder / "tls/certificate.pem").write_bytes(b"".join(pem))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (server.folder / "tls/key.pem").write_bytes(keys[1].private_bytes(*form))
    server.add_users()
    server.start()
    yield server, authority.public_bytes(serialization.Encoding.DER)
    server.stop()


@pytest.fixture
def client(office: tuple[Any, bytes], tmp_path: Path) -> Iterator[Any]:
    proxy = thunderbird.Socks("office.test", office[0].offset)
    made = thunderbird.Thunderbird(tmp_path / "t", proxy)
    made.trust(office[1])
    yield made
    made.close()
    proxy.close()


def look(client: Any, name: str) -> None:
    if folder := os.environ.get("MAILGUARD_PICTURES"):
        client.picture(Path(folder) / f"thunderbird-{name}.png")


def test_from_address_and_password_to_mail_read_and_sent(office: tuple[Any, bytes], client: Any) -> None:
    server, _ = office
    client.wait("return !!find('input#email')")
    client.run("type('input#realName', 'User One'); type('input#email', 'user1@office.test');")
    client.wait("let go = find('#forward'); return !go.disabled && (go.click(), true)")
    client.wait("return find('email-config-found') && !find('#forward').disabled")
    look(client, "found")
    client.run("find('#forward').click()")
    client.wait("return !!find('input#password')")
    client.run("type('input#password', arguments[0])", installed.PASSWORD)
    client.wait("let go = find('#forward'); return !go.disabled && (go.click(), true)")
    client.wait("return !!find('email-added-success')")
    look(client, "added")
    found = client.run(SERVICES + DETAILS)
    assert found[:5] == ["mail.office.test", server.port(993), 3, 3, "user1@office.test"]  # implicit TLS, password
    assert found[5].startswith("smtp://") and f"@mail.office.test:{server.port(465)}" in found[5]
    client.run("find('#forward').click()")
    server.wait_for("signed in account=user1@office.test protocol=imap")

    with smtplib.SMTP("127.0.0.1", server.port(25)) as smtp:
        head = "From: Bea <bea@elsewhere.test>\r\nTo: user1@office.test\r\nSubject: First mail\r\n\r\n"
        smtp.sendmail("bea@elsewhere.test", ["user1@office.test"], head + "Welcome to the office.\r\n")
    inbox = "return folders.getFolderWithFlags(Ci.nsMsgFolderFlags.Inbox)?.getTotalMessages(false) == 1"
    client.wait(SERVICES + inbox)  # told by IDLE
    text = client.wait(SERVICES + SHOW)
    for _ in range(40):
        if "Welcome to the office." in (text or ""):
            break
        time.sleep(0.25)
        text = client.run(SERVICES + SHOW)
    assert "Welcome to the office." in text
    look(client, "read")

    client.run(SERVICES + SEND, "user2@office.test")
    server.wait_for("to=user2@office.test")
    mail = server.folder / "data/mail/office.test"
    (arrived,) = [path.read_bytes() for path in (mail / "user2").rglob("new/*")]
    assert b"Subject: From Thunderbird\r\n" in arrived and b"Hello there\r\n" in arrived
    sent: list[Path] = []
    for _ in range(80):
        sent = [path for sub in ("cur", "new") for path in (mail / "user1/.Sent" / sub).glob("*")]
        if sent:
            break
        time.sleep(0.25)
    assert len(sent) == 1 and b"Hello there" in sent[0].read_bytes()
    look(client, "sent")
