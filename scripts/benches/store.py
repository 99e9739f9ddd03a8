"""Mail at rest: adopting, importing, backing up; what a delivery costs beside its file; how large the index is.

BENCH_STORE names some of adopt, import, delivery, size, backup (all of them); BENCH_ADOPT (100,000) and BENCH_MESSAGES
(10,000) are the sizes of the mailboxes.
"""

from __future__ import annotations

import imaplib
import os
import shutil
import smtplib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import harness
import officemail
import store_cost
from harness import Row

ADOPT = int(os.environ.get("BENCH_ADOPT", "100000"))
MESSAGES = int(os.environ.get("BENCH_MESSAGES", "10000"))
_EACH = 500  # messages over a connection
_CLEAR = {"imap.cleartext": "true"}
_ME, _OTHER = "u0@a.test", "u1@a.test"


def rows() -> Iterator[Row]:
    """Everything, or what BENCH_STORE names."""
    parts: dict[str, Callable[[Path], Iterator[Row]]] = {
        "adopt": _adopting, "import": _importing, "delivery": store_cost.delivering, "size": store_cost.sizes,
        "backup": _backing_up,
    }  # fmt: skip
    harness.need()
    for name in os.environ.get("BENCH_STORE", ",".join(parts)).split(","):
        with harness.scratch() as base:
            yield from parts[name](base)


def _adopting(base: Path) -> Iterator[Row]:
    """A Maildir as Dovecot leaves it, adopted while the server runs and a client waits for it."""
    officemail.fill(base / "few", 1_000)
    officemail.fill(base / "many", ADOPT)
    with harness.ours(base / "ours", users=("u0", "u1"), settings=_CLEAR) as server:
        few = _Command(server, "adopt", str(base / "few"), _OTHER)
        few.wait()
        many = _Command(server, "adopt", str(base / "many"), _ME)
        usable, selects = 0.0, []
        while many.runs():
            took, count = _select(server.offset + 143)
            if count == ADOPT and not usable:  # the first SELECT may have waited for the numbering
                usable = many.seconds + took
            elif usable:
                selects.append(1000 * took)
            time.sleep(0.2)
    yield Row(f"adopting {ADOPT:,}: ready to be used", usable, 5, "s", 1, False, "(limit)")
    yield Row("the same, read to the end", many.seconds, 60, "s", 1, False, "(limit)")
    yield Row("SELECT meanwhile, the slowest", max(selects), 1000, "ms", 1, False, "(limit)")
    yield Row("memory of the command", many.peak, few.peak, "kB", 1.25, False, "for 1,000")


class _Command:
    """One of our commands, running; ``seconds`` and ``peak`` (kB) are its time and memory until now, or its end."""

    def __init__(self, server: harness.Ours, *words: str, stdin: str = "") -> None:
        line = [sys.executable, "-m", "mailguard", *words, "-c", str(server.folder / "mailguard.toml")]
        self._errors = (server.folder / "errors").open("w+")
        self._began = time.perf_counter()
        self._process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=self._errors, text=True
        )
        assert self._process.stdin is not None
        self._process.stdin.write(stdin)
        self._process.stdin.close()
        self.seconds, self.peak = 0.0, 0

    def runs(self, flag: int = os.WNOHANG) -> bool:
        """Whether it does not end yet; raises SystemExit if it failed."""
        pid, status, used = os.wait4(self._process.pid, flag)
        self.seconds = time.perf_counter() - self._began
        if not pid:
            return True
        self._process.returncode, self.peak = os.waitstatus_to_exitcode(status), used.ru_maxrss
        self._errors.seek(0)
        told = self._errors.read()
        self._errors.close()
        if status:
            raise SystemExit(told)
        return False

    def wait(self) -> float:
        """Its seconds, once it has ended."""
        self.runs(0)
        return self.seconds


def _select(port: int) -> tuple[float, int]:
    """Seconds of SELECT, and the messages it told of."""
    client = imaplib.IMAP4("127.0.0.1", port)
    client.login(_ME, harness.PASSWORD)
    began = time.perf_counter()
    count = int(client.select()[1][0] or 0)
    took = time.perf_counter() - began
    client.logout()
    return took, count


def _importing(base: Path) -> Iterator[Row]:
    """The same mailbox of Dovecot's, copied by IMAP by us and by mbsync, in turns; the quicker of two each."""
    harness.need("dovecot", "mbsync")
    store_cost.fill_dovecot(base, "i1", MESSAGES)
    ours, theirs = [], []
    with harness.rival(base, "dovecot"), harness.ours(base / "ours", users=("u0", "u1")) as server:
        for number, user in enumerate((_ME, _OTHER)):
            theirs.append(_mbsync(base / f"mbsync{number}"))
            words = ("import", "imap", "127.0.0.1", "i1", user, "--port", str(harness.DOVECOT_IMAP), "--plain")
            ours.append(_Command(server, *words, "--password-stdin", stdin="secret\n").wait())
            there = len(list((server.folder / "data" / "mail" / "a.test" / user.split("@")[0] / "cur").iterdir()))
            if there != MESSAGES:
                raise SystemExit(f"{there} of {MESSAGES} messages were imported")
    yield Row(f"importing {MESSAGES:,} by IMAP", min(ours), min(theirs), "s", 1, False, "mbsync")


def _mbsync(folder: Path) -> float:
    (folder / "mail").mkdir(parents=True)
    (folder / "rc").write_text(
        f"IMAPAccount a\nHost 127.0.0.1\nPort {harness.DOVECOT_IMAP}\nUser i1\nPass secret\nSSLType None\n\n"
        f"IMAPStore far\nAccount a\n\nMaildirStore near\nPath {folder}/mail/\nInbox {folder}/mail/INBOX\n\n"
        f"Channel all\nFar :far:\nNear :near:\nPatterns INBOX\nCreate Near\nSync Pull\nSyncState {folder}/state\n"
    )
    began = time.perf_counter()
    subprocess.run(["mbsync", "-q", "-c", str(folder / "rc"), "-a"], check=True, env=os.environ | {"HOME": str(folder)})
    took = time.perf_counter() - began
    there = len(list((folder / "mail" / "INBOX").glob("*/*,*")))
    if there < MESSAGES:
        raise SystemExit(f"mbsync copied {there} of {MESSAGES} messages")
    return took


def _backing_up(base: Path) -> Iterator[Row]:
    """A backup while mail arrives by SMTP, restored into an empty server and compared there with what was sent."""
    officemail.fill(base / "old", MESSAGES)
    file, arrived, stop = base / "backup.tar", [0], threading.Event()
    with harness.ours(base / "ours", settings=_CLEAR) as server:
        harness.command("adopt", str(base / "old"), _ME, "-c", str(server.folder / "mailguard.toml"))
        sender = threading.Thread(target=_send, args=(server.offset + 25, arrived, stop))
        sender.start()
        while not arrived[0]:
            time.sleep(0.01)
        before = arrived[0]
        made = _Command(server, "backup", _ME, str(file)).wait()
        after = arrived[0]
        stop.set()
        sender.join()
        source = _bodies(base / "old")
    with harness.ours(base / "restored", settings=_CLEAR) as server:
        shutil.rmtree(server.folder / "data" / "mail", ignore_errors=True)
        back = _Command(server, "restore", str(file), _ME).wait()
        restored = _bodies(server.folder / "data" / "mail" / "a.test" / "u0")
        harness.command("index", "verify", _ME, "-c", str(server.folder / "mailguard.toml"))
        _, told = _select(server.offset + 143)
    wrong = sum(source.get(name) != data for name, data in restored.items())
    if wrong or told != len(restored) or not MESSAGES + before <= len(restored) <= MESSAGES + after:
        raise SystemExit(f"{len(restored)} messages came back, {wrong} of them wrong, {told} told by SELECT")
    yield Row(
        f"backup of {MESSAGES:,}, read again ({after - before} came meanwhile)", made, 30, "s", 1, False, "(limit)"
    )
    yield Row("restoring it into an empty server", back, 30, "s", 1, False, "(limit)")


def _bodies(root: Path) -> dict[str, bytes]:
    """All messages by base name."""
    found = {}
    for file in (*root.glob("cur/*"), *root.glob("new/*")):
        found[file.name.partition(":")[0]] = file.read_bytes()
    return found


def _send(port: int, arrived: list[int], stop: threading.Event) -> None:
    while not stop.is_set():
        with smtplib.SMTP("127.0.0.1", port) as client:
            for _ in range(_EACH):
                if stop.is_set():
                    break
                text = f"Subject: number {arrived[0]}\r\n\r\nwhile the backup runs\r\n"
                client.sendmail("x@x.example", [_ME], text)
                arrived[0] += 1
