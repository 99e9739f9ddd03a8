"""What mail at rest costs beside the mail: CPU of a delivery's bookkeeping in folders of any size, and the index's
octets."""

from __future__ import annotations

import contextlib
import imaplib
import os
import random
import shutil
import smtplib
import sqlite3
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import officemail
from harness import Row

from mailguard.store.account import AccountStore
from mailguard.store.announcer import Announcer

FOLDERS = (1_000, 10_000, 100_000)
DELIVERED = 500
_LMTP = 2524
_OFFICE = 3_000  # messages
_LETTERS = 10_000
_TICK = os.sysconf("SC_CLK_TCK")


class _Silent(Announcer):
    """Takes note, and describes nothing: that is measured by itself."""

    def _run(self) -> None:
        return


def delivering(base: Path) -> Iterator[Row]:
    """CPU time of each delivery; Dovecot's is that of its LMTP process for a delivery, and ours what is named."""
    harness.need("dovecot")
    for size in FOLDERS:
        fill_dovecot(base, f"b-d{size}", size, _tiny)
        officemail.fill(base / f"o{size}", size, _tiny)
    with harness.rival(base, "dovecot"):
        theirs = {size: _lmtp(f"d{size}") for size in FOLDERS}
    for size in FOLDERS:
        account = AccountStore(base / f"o{size}", base / f"{size}.db", host="mx", announcer=_Silent(delay=1))
        burst, single, whole = _ours(account)
        account.close()
        what = f"folder of {size:,}"
        yield Row(f"{what}: row, uidlist and bell, in a burst", burst, 0.3, "ms", 1, False, "(limit)")
        yield Row(f"{what}: the same, one by one as a client looks", single, 0.3, "ms", 1, False, "(limit)")
        yield Row(f"{what}: a whole delivery, described too", whole, theirs[size], "ms", 1, False, "Dovecot's LMTP")


def _tiny(number: int, rng: random.Random) -> bytes:
    return b"Subject: %d\r\n\r\n%d\r\n" % (number, rng.randrange(100))


def _ours(account: AccountStore) -> tuple[float, float, float]:
    """Milliseconds of CPU for each message, of all threads."""
    inbox = account.mailbox("INBOX")
    bell = inbox.listen(lambda: None)
    inbox.status()
    time.sleep(1.5)  # what was written a moment ago is looked at twice
    inbox.status()
    mails = [officemail.letter(n, random.Random(n)) for n in range(DELIVERED)]
    for mail in mails:
        account.deliver([mail])
    burst = _cpu_of(inbox.refresh)
    delivered = single = 0.0
    for mail in mails:
        delivered += _cpu_of(account.deliver, [mail])
        single += _cpu_of(inbox.refresh)
    described = _cpu_of(inbox.describe_some, 2 * DELIVERED) / 2
    bell.close()
    burst, single, whole = (1000 * spent / DELIVERED for spent in (burst, single, delivered + single + described))
    return burst, single, whole


def _cpu_of(function: Callable[..., object], *arguments: object) -> float:
    before = time.process_time()
    function(*arguments)
    return time.process_time() - before


def _lmtp(user: str) -> float:
    """Milliseconds of CPU that Dovecot's LMTP process takes for a message; its index is there already."""
    client = imaplib.IMAP4("127.0.0.1", harness.DOVECOT_IMAP)
    client.login(f"b-{user}", "secret")
    client.select()
    client.logout()
    mails = [officemail.letter(n, random.Random(n)) for n in range(DELIVERED)]
    with smtplib.LMTP("127.0.0.1", _LMTP) as lmtp:
        lmtp.sendmail("x@x.example", [f"{user}@b.test"], mails[0])
        pids = subprocess.check_output(["pgrep", "-x", "lmtp"], text=True).split()
        before = _cpu(pids)
        for mail in mails:
            lmtp.sendmail("x@x.example", [f"{user}@b.test"], mail)
        return 1000 * (_cpu(pids) - before) / DELIVERED


def _cpu(pids: list[str]) -> float:
    """Seconds of CPU of processes until now."""
    spent = 0.0
    for pid in pids:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        spent += (int(words[11]) + int(words[12])) / _TICK
    return spent


def fill_dovecot(
    base: Path, user: str, count: int, make: Callable[[int, random.Random], bytes] = officemail.letter
) -> None:
    """Makes the mailbox of a user of the rival that will run below ``base``."""
    root = base / "maild" / user
    officemail.fill(root, count, make)
    subprocess.run(["chown", "-R", "5000:5000", str(base / "maild")], check=True)


def sizes(base: Path) -> Iterator[Row]:
    """The index in percent of the mail: compared with the limits, without and with the text for searching, and with
    what Debian's Dovecot keeps beside the same mail once it was asked for the same. What a message takes hardly
    depends on its size: 65 octets of file name, flags and numbers, 20 for its MODSEQ, 20 for its EMAILID, and 70
    (letters that are much alike) to 170 (mail of many people) of ENVELOPE, BODYSTRUCTURE and what is searched and
    sorted by, packed. 3 % of short letters would be 120."""
    harness.need("dovecot")
    kinds = {"office": "an office's mail", "letters": "letters"}
    octets = {
        "office": officemail.fill(base / "maild" / "office", _OFFICE, officemail.office),
        "letters": officemail.fill(base / "maild" / "letters", _LETTERS),
    }
    archive = harness.SHARED / "corpus" / "mail-open.tar.xz"
    if archive.exists():
        kinds["open"] = "small public mail without attachments"
        octets["open"] = _unpack(archive, base / "maild" / "open")
    for name in kinds:
        shutil.copytree(base / "maild" / name, base / name)
    subprocess.run(["chown", "-R", "5000:5000", str(base / "maild")], check=True)
    with harness.rival(base, "dovecot"):
        for name in kinds:
            _ask_dovecot(name)
    for name, what in kinds.items():
        theirs = sum(file.stat().st_size for file in (base / "maild" / name).glob("dovecot.index*"))
        yield from _percent(base, what, base / name, octets[name], theirs)


_COLUMNS = "(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)"
_KEYS = "(ARRIVAL DATE SIZE FROM TO CC SUBJECT)"


def _ask_dovecot(user: str) -> None:
    """Has it keep what ours keeps: it remembers what it was asked for."""
    client = imaplib.IMAP4("127.0.0.1", harness.DOVECOT_IMAP)
    client.login(user, "secret")
    client.select()
    client.fetch("1:*", _COLUMNS)
    client.sort(_KEYS, "UTF-8", "ALL")
    client.thread("REFERENCES", "UTF-8", "ALL")
    client.logout()


def _percent(base: Path, what: str, root: Path, octets: int, theirs: int) -> Iterator[Row]:
    path = base / f"{root.name}.db"
    account = AccountStore(root, path, host="mx")
    inbox = account.mailbox("INBOX")
    each = f"({octets / 1000 / inbox.status().messages:.1f} kB each)"
    held = _described(base, path, inbox.describe_some)
    yield Row(f"index of {what} {each}", 100 * held / octets, 3, "%", 1, False, "(limit)")
    yield Row("the same beside its rival", 100 * held / octets, 100 * theirs / octets, "%", 1, False, "Dovecot's")
    held = _described(base, path, inbox.keep_some)
    yield Row(f"index with text of {what}", 100 * held / octets, 40, "%", 1, False, "(limit)")
    account.close()


def _described(base: Path, path: Path, work: Callable[[int], int]) -> int:
    """The octets of the index's files after work that is done in steps."""
    while work(500):
        pass
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return sum(file.stat().st_size for file in base.glob(f"{path.name}*") if not file.name.endswith("-shm"))


def _unpack(archive: Path, root: Path) -> int:
    for folder in ("cur", "new", "tmp"):
        (root / folder).mkdir(parents=True)
    octets = 0
    with tarfile.open(archive) as tar:
        for number, member in enumerate(each for each in tar if each.name.endswith(".eml")):
            source = tar.extractfile(member)
            data = source.read() if source else b""
            (root / "cur" / f"{officemail.VALIDITY + number}.M1P1.host,S={len(data)}:2,S").write_bytes(data)
            octets += len(data)
    return octets
