"""IMAP of the running server, used by programs that people use: curl, mbsync, mutt, fetchmail, imaplib."""

from __future__ import annotations

import hashlib
import imaplib
import re
import shutil
import smtplib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import installed
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

USER1, USER2 = installed.USERS
MESSAGE = "From: Ann <ann@example.net>\r\nTo: user1@office.test\r\nSubject: {}\r\n\r\n.dots and text\r\n"


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    made = installed.Installed(tmp_path_factory.mktemp("office") / "m", settings=['dns.nameservers=["127.0.0.1:9"]'])
    made.add_users()
    made.start()
    yield made
    made.stop()
    made.close()


def unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def signed_in(server: Any, user: str = USER1) -> imaplib.IMAP4_SSL:
    client = imaplib.IMAP4_SSL("127.0.0.1", server.port(993), ssl_context=unchecked(), timeout=20)
    client.login(user, installed.PASSWORD)
    return client


def run(*command: str, timeout: float = 100, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, env={"PATH": "/usr/bin:/bin", **environment}
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def fill(server: Any, user: str, count: int, mailbox: str = "INBOX") -> None:
    client = signed_in(server, user)
    for n in range(count):
        assert client.append(mailbox, "", None, MESSAGE.format(f"number {n}").encode())[0] == "OK"
    client.logout()


def test_mail_that_arrives_is_there_at_once(server: Any) -> None:
    client = signed_in(server)
    client.select()
    with smtplib.SMTP("127.0.0.1", server.port(25), timeout=20) as sender:
        sender.sendmail("ann@example.net", [USER1], MESSAGE.format("fresh"))
    client.noop()
    _, found = client.search(None, "SUBJECT", "fresh")
    _, text = client.fetch(found[0].split()[-1].decode(), "(FLAGS BODY[TEXT])")
    assert text[0][1] == b".dots and text\r\n"
    client.logout()


@needs("curl")
def test_curl_reads_appends_and_searches(server: Any, tmp_path: Path) -> None:
    base = f"imaps://127.0.0.1:{server.port(993)}"
    command = ("curl", "-sk", "-u", f"{USER1}:{installed.PASSWORD}", "--max-time", "20")
    (tmp_path / "mail").write_text(MESSAGE.format("from curl"))
    run(*command, f"{base}/Drafts", "-T", str(tmp_path / "mail"))
    assert "Junk" in run(*command, f"{base}/")
    assert run(*command, f"{base}/Drafts?SUBJECT%20curl").strip() == "* SEARCH 1"
    assert "Subject: from curl" in run(*command, f"{base}/Drafts;UID=1")
    assert "Subject: from curl" in run(*command, f"{base}/Drafts;UID=1/;SECTION=HEADER.FIELDS%20(SUBJECT)")
    plain = f"imap://127.0.0.1:{server.port(143)}"
    assert "EXISTS" in run(*command, "--ssl-reqd", f"{plain}/", "-X", "SELECT Drafts")


def mbsync(server: Any, tmp_path: Path, user: str, patterns: str = "*") -> tuple[str, ...]:
    """The command that brings the user's mailboxes and ``tmp_path/mail`` to the same state."""
    (tmp_path / "mail").mkdir()
    (tmp_path / "rc").write_text(
        f"FSync no\n"  # of its own copies: 5,000 of them would take most of the time
        f"IMAPAccount a\nHost 127.0.0.1\nPort {server.port(993)}\nUser {user}\nPass {installed.PASSWORD}\n"
        f"SSLType IMAPS\nSystemCertificates no\nCertificateFile {server.folder}/tls/certificate.pem\n\n"
        f"IMAPStore far\nAccount a\n\nMaildirStore near\nPath {tmp_path}/mail/\nInbox {tmp_path}/mail/INBOX\n"
        f"SubFolders Verbatim\n\n"
        f"Channel all\nFar :far:\nNear :near:\nPatterns {patterns}\nCreate Both\nExpunge Both\nSync All\n"
        f"SyncState {tmp_path}/state/\n"
    )
    (tmp_path / "state").mkdir()
    return ("mbsync", "-c", str(tmp_path / "rc"), "-a")


@needs("mbsync")
def test_mbsync_both_ways(server: Any, tmp_path: Path) -> None:
    fill(server, USER2, 25)
    command = mbsync(server, tmp_path, USER2)
    run(*command, HOME=str(tmp_path))
    near = tmp_path / "mail/INBOX"
    files = [*(near / "new").iterdir(), *(near / "cur").iterdir()]
    assert len(files) == 25
    # One flagged, one deleted, one new here; another one answered there (mbsync names its files after their UIDs).
    uid = {re.search(r",U=(\d+)", file.name)[1]: file for file in files}
    uid["1"].rename(near / "cur" / (uid["1"].name.split(":")[0] + ":2,FS"))
    uid["2"].unlink()
    (near / "new" / "99.made.here").write_text(MESSAGE.format("made here").replace("\r\n", "\n"))
    client = signed_in(server, USER2)
    client.select()
    client.store("7", "+FLAGS", "(\\Answered)")
    run(*command, HOME=str(tmp_path))
    client.noop()
    _, found = client.search(None, "ALL")
    assert len(found[0].split()) == 25
    assert len(client.search(None, "FLAGGED", "SEEN")[1][0].split()) == 1
    assert len(client.search(None, "SUBJECT", '"made here"')[1][0].split()) == 1
    assert sum("R" in path.name.split(":2,")[-1] for path in (near / "cur").iterdir()) == 1
    client.logout()


@needs("mbsync")
@pytest.mark.timeout(900)
def test_mbsync_keeps_five_thousand_in_step(server: Any, tmp_path: Path) -> None:
    client = signed_in(server)
    client.create("Bulk")
    bulk = server.folder / "data/mail/office.test/user1/.Bulk/new"
    for n in range(5_000):
        (bulk / f"1700000000.M{n:06d}P1.away").write_text(MESSAGE.format(f"number {n}").replace("\r\n", "\n"))
    command = mbsync(server, tmp_path, USER1, "Bulk")
    run(*command, timeout=400, HOME=str(tmp_path))
    near = tmp_path / "mail/Bulk"
    uid = {int(re.search(r",U=(\d+)", file.name)[1]): file for file in (near / "new").iterdir()}
    assert sorted(uid) == list(range(1, 5_001))
    for n in range(1, 1_001):
        uid[n].rename(near / "cur" / (uid[n].name.split(":")[0] + ":2,FS"))
    for n in range(1_001, 2_001):
        uid[n].unlink()
    for n in range(500):
        (near / "new" / f"99.made{n}.here").write_text(MESSAGE.format(f"made here {n}").replace("\r\n", "\n"))
    client.select("Bulk")
    client.uid("STORE", "3001:3500", "+FLAGS", "(\\Answered)")
    client.uid("STORE", "4001:4500", "+FLAGS", "(\\Deleted)")
    client.expunge()
    run(*command, timeout=400, HOME=str(tmp_path))
    client.noop()
    keys = ("ALL", "FLAGGED SEEN", "ANSWERED", 'SUBJECT "made here"', "UID 1001:2000,4001:4500")
    assert [len(client.search(None, key)[1][0].split()) for key in keys] == [4_000, 1_000, 500, 500, 0]
    files = [*(near / "cur").iterdir(), *(near / "new").iterdir()]
    assert len(files) == 4_000
    assert sum("R" in file.name.split(":2,")[-1] for file in files) == 500
    client.logout()


@needs("mutt")
def test_mutt_lists_saves_and_deletes(server: Any, tmp_path: Path) -> None:
    fill(server, USER1, 3, "Archive")
    url = f"imaps://127.0.0.1:{server.port(993)}"
    (tmp_path / "rc").write_text(
        f"set imap_user={USER1}\nset imap_pass={installed.PASSWORD}\nset folder={url}\nset spoolfile={url}/Archive\n"
        f"set ssl_starttls=yes\nset certificate_file={server.folder}/tls/certificate.pem\nset ssl_verify_host=no\n"
        f"set ssl_usesystemcerts=no\nset delete=yes\nset confirmappend=no\nset quit=yes\nset sort=mailbox-order\n"
        f"set move=no\nset mark_old=no\n"
        f"push '<first-entry><save-message>=Trash<enter><delete-message><last-entry><flag-message>"
        f"<sync-mailbox><quit>'\n"
    )
    command = ["mutt", "-n", "-F", str(tmp_path / "rc")]
    script = ("script", "-qec", " ".join(command), "/dev/null")
    run(*script, HOME=str(tmp_path), TERM="xterm")
    client = signed_in(server)
    assert client.select("Trash")[1] == [b"1"]
    assert client.select("Archive")[1] == [b"1"]
    assert client.search(None, "FLAGGED")[1] == [b"1"]
    client.logout()


@needs("fetchmail")
def test_fetchmail_takes_all(server: Any, tmp_path: Path) -> None:
    fill(server, USER1, 2, "Junk")
    rc = tmp_path / "rc"
    rc.write_text(
        f"poll 127.0.0.1 port {server.port(993)} protocol IMAP user '{USER1}' password '{installed.PASSWORD}' "
        f"folder Junk fetchall ssl no sslcertck mda 'cat >> {tmp_path}/got'\n"
    )
    rc.chmod(0o600)
    run("fetchmail", "-f", str(rc), "--pidfile", str(tmp_path / "pid"), HOME=str(tmp_path))
    assert (tmp_path / "got").read_text().count("Subject: number") == 2
    client = signed_in(server)
    assert client.select("Junk")[1] == [b"0"]
    client.logout()


@needs("offlineimap")
def test_offlineimap_copies_and_sends_changes_back(server: Any, tmp_path: Path) -> None:
    fill(server, USER2, 5, "Sent")
    (tmp_path / "mail").mkdir()
    (tmp_path / "rc").write_text(
        f"[general]\naccounts = a\nmetadata = {tmp_path}/meta\nui = quiet\n"
        f"[Account a]\nlocalrepository = l\nremoterepository = r\n"
        f"[Repository l]\ntype = Maildir\nlocalfolders = {tmp_path}/mail\n"
        f"[Repository r]\ntype = IMAP\nremotehost = 127.0.0.1\nremoteport = {server.port(993)}\nremoteuser = {USER2}\n"
        f"remotepass = {installed.PASSWORD}\nssl = yes\nfolderfilter = lambda name: name == 'Sent'\n"
        f"ssl_version = tls1_2\ntls_level = tls_compat\n"
        f"cert_fingerprint = {fingerprint(server)}\n"
    )
    command = ("offlineimap", "-c", str(tmp_path / "rc"), "-o")
    run(*command, HOME=str(tmp_path))
    near = tmp_path / "mail/Sent"
    files = [*(near / "new").iterdir(), *(near / "cur").iterdir()]
    assert len(files) == 5
    files[0].rename(near / "cur" / (files[0].name.split(":")[0] + ":2,FS"))
    run(*command, HOME=str(tmp_path))
    client = signed_in(server, USER2)
    client.select("Sent")
    assert len(client.search(None, "FLAGGED", "SEEN")[1][0].split()) == 1
    client.logout()


def fingerprint(server: Any) -> str:
    certificate = (server.folder / "tls/certificate.pem").read_text()
    return hashlib.sha1(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()


@needs("getmail")
def test_getmail_takes_all(server: Any, tmp_path: Path) -> None:
    fill(server, USER2, 3, "Archive")
    (tmp_path / "getmailrc").write_text(
        f"[retriever]\ntype = SimpleIMAPSSLRetriever\nserver = 127.0.0.1\nport = {server.port(993)}\n"
        f"username = {USER2}\npassword = {installed.PASSWORD}\nmailboxes = ('Archive',)\n"
        f"[destination]\ntype = MDA_external\npath = /usr/bin/tee\narguments = ('-a', '{tmp_path}/got')\n"
        f"allow_root_commands = true\nignore_stderr = true\n[options]\ndelete = true\n"
    )
    run("getmail", "--getmaildir", str(tmp_path), HOME=str(tmp_path))
    assert (tmp_path / "got").read_text().count("Subject: number") == 3
    client = signed_in(server, USER2)
    assert client.select("Archive")[1] == [b"0"]
    client.logout()
