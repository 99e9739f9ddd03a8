"""An office moves from Dovecot to mailguard and back, with mail programs that must not notice; and by IMAP."""

from __future__ import annotations

import imaplib
import poplib
import random
import re
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dovecot
import installed
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


USER = installed.USERS[0]
FLAGS = [
    "\\Seen",
    "\\Flagged",
    "\\Answered",
    "\\Draft",
    "$Label1",
    "Büro".encode("ascii", "ignore").decode() or "B",
    "$Forwarded",
]
FOLDERS = ["INBOX", "Sent", "Work/2026/Rechnungen", "B&APw-ro"]

State = dict[str, dict[int, tuple[str, ...]]]


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="move-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def old(folder: Path) -> Iterator[Any]:
    if not dovecot.runnable():
        pytest.skip("needs Dovecot, and the right to start it")
    server = dovecot.Dovecot(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def office(folder: Path) -> Iterator[Any]:
    made = installed.Installed(folder / "m", settings=['dns.nameservers=["127.0.0.1:9"]', "workers=2"])
    made.add_users()
    yield made
    made.close()


def unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def to_dovecot(old: Any, user: str = "user1") -> imaplib.IMAP4:
    client = imaplib.IMAP4("127.0.0.1", old.imap, timeout=20)
    client.login(user, dovecot.PASSWORD)
    return client


def to_mailguard(office: Any) -> imaplib.IMAP4:
    client = imaplib.IMAP4_SSL("127.0.0.1", office.port(993), ssl_context=unchecked(), timeout=20)
    client.login(USER, installed.PASSWORD)
    return client


def mail(number: int) -> bytes:
    body = "".join(f"line {n} of {number}\r\n" for n in range(number % 7))
    header = f"From: a{number}@example.net\r\nSubject: number {number}\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\n"
    return f"{header}\r\n{body}".encode()


def fill(client: imaplib.IMAP4, count: int, seed: int) -> None:
    """Some mail with every kind of flag, gaps between the UIDs, and subscriptions."""
    rng = random.Random(seed)
    for name in FOLDERS:
        client.create(f'"{name}"')
        client.subscribe(f'"{name}"')
    for number in range(count):
        flags = " ".join(rng.sample(FLAGS, rng.randrange(4)))
        date = imaplib.Time2Internaldate(1_600_000_000 + number * 10_000)
        kind, told = client.append(f'"{rng.choice(FOLDERS)}"', f"({flags})", date, mail(number))
        assert kind == "OK", told
    for name in FOLDERS:
        client.select(f'"{name}"')
        uids = client.uid("SEARCH", "ALL")[1][0].split()
        for uid in uids[::5]:
            client.uid("STORE", uid, "+FLAGS", "(\\Deleted)")
        client.expunge()


def state(client: imaplib.IMAP4) -> tuple[State, dict[str, bytes], set[bytes]]:
    """Everything a client could remember."""
    found: State = {}
    validity: dict[str, bytes] = {}
    for name in FOLDERS:
        kind, _ = client.select(f'"{name}"', readonly=True)
        assert kind == "OK", name
        validity[name] = client.response("UIDVALIDITY")[1][0]
        rows: dict[int, tuple[str, ...]] = {}
        for line in client.uid("FETCH", "1:*", "(UID FLAGS INTERNALDATE RFC822.SIZE)")[1]:
            text = (line or b"").decode()
            if uid := re.search(r"UID (\d+)", text):
                flags = re.search(r"FLAGS \(([^)]*)\)", text)
                date = re.search(r'INTERNALDATE "([^"]+)"', text)
                size = re.search(r"RFC822\.SIZE (\d+)", text)
                assert flags and date and size
                when = str(time.mktime(imaplib.Internaldate2tuple(f'INTERNALDATE "{date[1]}"'.encode())))
                rows[int(uid[1])] = (*sorted(f for f in flags[1].split() if f != "\\Recent"), when, size[1])
        found[name] = rows
    subscribed = {line.split()[-1].strip(b'"') for line in client.lsub()[1] if line}
    return found, validity, subscribed


def uidls(pop: poplib.POP3) -> list[bytes]:
    found = [line.split()[1] for line in pop.uidl()[1]]
    pop.quit()
    return found


def pop_of_dovecot(old: Any) -> list[bytes]:
    pop = poplib.POP3("127.0.0.1", old.pop3, timeout=20)
    pop.user("user1")
    pop.pass_(dovecot.PASSWORD)
    return uidls(pop)


def pop_of_mailguard(office: Any) -> list[bytes]:
    pop = poplib.POP3_SSL("127.0.0.1", office.port(995), context=unchecked(), timeout=20)
    pop.user(USER)
    pop.pass_(installed.PASSWORD)
    return uidls(pop)


class Mbsync:
    """A user's computer: what it must not do is to load anything again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("mail", "state"):
            (folder / name).mkdir(parents=True)

    def run(self, account: str) -> None:
        (self._folder / "rc").write_text(
            f"IMAPAccount a\nHost 127.0.0.1\n{account}\nIMAPStore far\nAccount a\nPathDelimiter /\n\n"
            f"MaildirStore near\nPath {self._folder}/mail/\nInbox {self._folder}/mail/INBOX\nSubFolders Verbatim\n\n"
            f"Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSync All\n"
            f"SyncState {self._folder}/state/\n"
        )
        done = subprocess.run(
            ["mbsync", "-c", str(self._folder / "rc"), "-a"], capture_output=True, text=True, timeout=100,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self._folder)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def files(self) -> dict[str, int]:
        """Inode of every message file by its path without flags: a message loaded again is another file."""
        found = {}
        for path in self._folder.glob("mail/**/*"):
            if path.parent.name in ("cur", "new") and path.is_file():
                found[f"{path.parent.parent}/{path.name.partition(':')[0]}"] = path.stat().st_ino
        return found


class Getmail:
    """A computer that fetches by POP3 and leaves everything on the server: it knows messages by their UIDLs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("cur", "new", "tmp"):
            (folder / "mail" / name).mkdir(parents=True)

    def run(self, port: int, user: str, password: str, *, tls: bool) -> int:
        """Fetches from a server that the user believes to be the one of before; returns how many messages came."""
        before = len(list(self._folder.glob("mail/new/*")))
        kind = "SimplePOP3SSLRetriever" if tls else "SimplePOP3Retriever"
        (self._folder / "getmailrc").write_text(
            f"[retriever]\ntype = {kind}\nserver = 127.0.0.1\nport = {port}\nusername = {user}\npassword = {password}\n"
            f"[destination]\ntype = Maildir\npath = {self._folder}/mail/\n[options]\nread_all = false\ndelete = false\n"
        )
        seen, known = self._folder / "seen", self._folder / f"oldmail-127.0.0.1-{port}-{user}"
        if seen.exists():
            shutil.copy(seen, known)  # it keeps its UIDLs by the server's name and port
        command = ["getmail", "--getmaildir", str(self._folder)]
        subprocess.run(["chown", "-R", "nobody", str(self._folder)], check=True)  # it refuses to deliver as root
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self._folder)}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=100, user="nobody", group="nogroup", env=environment
        )
        assert done.returncode == 0, done.stdout + done.stderr
        shutil.copy(known, seen)
        return len(list(self._folder.glob("mail/new/*"))) - before


def test_there_and_back_without_a_byte_loaded_again(old: Any, office: Any, folder: Path) -> None:
    client = to_dovecot(old)
    fill(client, 60, seed=1)
    desktop = Getmail(folder / "desktop")
    has_getmail = shutil.which("getmail") is not None
    if has_getmail:
        assert desktop.run(old.pop3, "user1", dovecot.PASSWORD, tls=False) > 5
    before = state(client)  # Dovecot flags what was fetched by POP3
    client.logout()
    popped = pop_of_dovecot(old)
    laptop = Mbsync(folder / "laptop")
    at_dovecot = f"Port {old.imap}\nUser user1\nPass {dovecot.PASSWORD}\nSSLType None\n"
    at_mailguard = (
        f"Port {office.port(993)}\nUser {USER}\nPass {installed.PASSWORD}\nSSLType IMAPS\nSystemCertificates no\n"
        f"CertificateFile {office.folder}/tls/certificate.pem\n"
    )
    has_mbsync = shutil.which("mbsync") is not None
    if has_mbsync:
        laptop.run(at_dovecot)
        assert len(laptop.files()) == sum(map(len, before[0].values()))
    loaded = laptop.files()
    old.stop()

    subprocess.run(["chown", "-R", "0:0", str(old.mail)], check=True)
    told = office.run("adopt", str(old.mail / "user1"), USER)
    assert "adopted" in told.stderr, told
    office.start()
    client = to_mailguard(office)
    assert state(client) == before
    assert pop_of_mailguard(office) == popped
    if has_mbsync:
        laptop.run(at_mailguard)
        assert laptop.files() == loaded
    if has_getmail:
        assert desktop.run(office.port(995), USER, installed.PASSWORD, tls=True) == 0
    # Work goes on here: every kind of change.
    client.select("INBOX")
    uids = client.uid("SEARCH", "ALL")[1][0].split()
    client.uid("STORE", b",".join(uids[:2]), "+FLAGS", "(\\Flagged NewWord)")
    client.uid("COPY", uids[3], "Sent")
    client.uid("MOVE", uids[4], "Sent")
    client.uid("STORE", uids[-1], "+FLAGS", "(\\Deleted)")
    client.expunge()
    client.append("INBOX", "(\\Seen $Label1)", imaplib.Time2Internaldate(1_650_000_000), mail(1000))
    client.create("Later")
    client.append("Later", None, None, mail(1001))
    after = state(client)
    client.logout()
    popped = pop_of_mailguard(office)
    if has_mbsync:
        laptop.run(at_mailguard)
    loaded = laptop.files()
    if has_getmail:
        assert desktop.run(office.port(995), USER, installed.PASSWORD, tls=True) == 1  # the one appended
    assert office.stop() == 0

    old.start()
    client = to_dovecot(old)
    now = state(client)
    assert [
        (name, uid, row, now[0][name].get(uid))
        for name, rows in after[0].items()
        for uid, row in rows.items()
        if now[0][name].get(uid) != row
    ] == []
    assert now == after
    kind, count = client.select("Later", readonly=True)
    assert (kind, count) == ("OK", [b"1"])
    # What comes next gets a UID that nobody has had.
    client.append("INBOX", None, None, mail(1002))
    assert max(state(client)[0]["INBOX"]) > max(after[0]["INBOX"])
    client.logout()
    assert pop_of_dovecot(old)[: len(popped)] == popped
    if has_getmail:
        assert desktop.run(old.pop3, "user1", dovecot.PASSWORD, tls=False) == 1  # the one appended
    if has_mbsync:
        laptop.run(at_dovecot)
        now = laptop.files()
        assert {name: now.get(name) for name in loaded} == loaded
        assert len(now) == len(loaded) + 1


def test_beside_dovecot_on_one_maildir(old: Any, folder: Path) -> None:
    """Both write at the same time, each through its own locks; nothing is numbered twice."""
    from mailguard.store.account import AccountStore
    from mailguard.store.snapshot import NewMessage

    client = to_dovecot(old)
    client.append("INBOX", None, None, mail(0))
    root = old.mail / "user1"
    account = AccountStore(root, folder / "index.db", host="mx")
    inbox = account.mailbox("INBOX")

    def mine(path: Path) -> None:
        subprocess.run(["chown", "-R", "5000:5000", str(path)], check=True)

    given: dict[int, str] = {}
    for number in range(1, 41):
        if number % 2:
            (uid,) = inbox.append([NewMessage([mail(number)], ("$Label1",) if number % 3 else ())])
            assert uid not in given
            given[uid] = f"number {number}"
            mine(root)
        else:
            assert client.append("INBOX", None, None, mail(number))[0] == "OK"
            client.select("INBOX")
            client.uid("STORE", str(max(given)), "+FLAGS", "(\\Seen)")
    client.select("INBOX")
    theirs = {}
    for part in client.uid("FETCH", "1:*", "(UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]:
        if isinstance(part, tuple):
            uid = re.search(rb"UID (\d+)", part[0])
            assert uid
            theirs[int(uid[1])] = part[1].decode().strip().removeprefix("Subject: ")
    inbox.refresh()
    ours = dict(inbox.rows(None, ("uid", "subject")))
    assert ours == theirs and len(ours) == 41
    assert all(ours[uid] == subject for uid, subject in given.items())
    client.logout()


def test_import_by_imap(old: Any, office: Any) -> None:
    client = to_dovecot(old)
    fill(client, 60, seed=2)
    before, _, _ = state(client)
    client.logout()
    command = ("import", "imap", "127.0.0.1", "user1", USER, "--port", str(old.imap), "--plain", "--password-stdin")
    told = office.run(*command, "--map", "B&APw-ro=Bureau", stdin=dovecot.PASSWORD + "\n")
    assert "Rechnungen" in told.stdout
    again = office.run(*command, "--map", "B&APw-ro=Bureau", stdin=dovecot.PASSWORD + "\n")
    assert re.search(r"INBOX +INBOX +\d+ +0", again.stdout), again.stdout
    from mailguard.store.account import AccountStore

    data = office.folder / "data"
    account = AccountStore(data / "mail" / "office.test" / "user1", data / "index" / f"{USER}.db")
    for name, rows in before.items():
        box = account.mailbox({"B&APw-ro": "Bureau"}.get(name, name))
        here = [
            (*sorted(flags.split()), str(float(date)), str(size))
            for flags, date, size in box.rows(None, ("flags", "internaldate", "size"))
        ]
        assert here == list(rows.values()), name
    account.close()
    failed = office.run(*command, stdin="wrong\n", code=1)
    assert "Authentication failed" in failed.stderr
    failed = office.run(*command, "--folder", "Nix", stdin=dovecot.PASSWORD + "\n", code=1)
    assert "user1 has no folder Nix on 127.0.0.1; there are " in failed.stderr
