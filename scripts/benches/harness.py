"""What the parts of the benchmark share: our server and its rivals on scratch folders, the drivers, the rows."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

SHARED = Path(os.environ.get("MAILGUARD_SHARED") or Path(__file__).resolve().parents[3] / "shared")
PASSWORD = "correct-horse-1"
POSTFIX_PORT, DOVECOT_IMAP, DOVECOT_POP3 = 2625, 2143, 2110  # of the rivals' scripts


USERS = [f"u{number}" for number in range(10)]
_GREYLIST = 'skip_if = ""\noptions = { at = "recipient", delay = "0s" }\n'  # looks everybody up, and keeps nobody out
_CHECKS = ("iprev", "spf", "dkim", "arc", "dmarc", "dnsbl", "greylist", "attachments", "spamscore")


class Absent(Exception):
    """What this part needs is not on this machine; the text names it."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure beside the rival's. ``goal`` bounds ours/theirs, from below where ``more`` is better."""

    what: str
    ours: float
    theirs: float
    unit: str
    goal: float = 0.0
    more: bool = True
    rival: str = ""

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return self.ours / self.theirs if self.theirs else float("nan")

    @property
    def good(self) -> bool:
        """Whether the goal is reached."""
        return self.ratio >= self.goal if self.more else self.ratio <= self.goal

    def told(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self) | {"ratio": round(self.ratio, 3), "good": self.good}

    def cells(self) -> tuple[str, ...]:
        """All of it, for a table."""
        sign = ">=" if self.more else "<="
        theirs = f"{self.theirs:,.4g} {self.rival}".strip()
        verdict = "[green]yes[/green]" if self.good else "[red]no[/red]"
        return self.what, f"{self.ours:,.4g} {self.unit}", theirs, f"{self.ratio:.2f}", f"{sign} {self.goal:g}", verdict


def all_checks(*lists: str, rules: str = "") -> str:
    """A policy with every check that needs no other program, asked of strangers and friends alike; ``lists`` are what
    ``dnsbl`` asks, as they stand in the policy."""
    more = {"dnsbl": f'skip_if = ""\noptions = {{ lists = [{", ".join(lists)}] }}\n', "greylist": _GREYLIST}
    checks = "".join(f'[[check]]\nplugin = "{name}"\n{more.get(name, "")}' for name in _CHECKS)
    return f"{checks}{rules}[score]\njunk = 6\nreject = 15\n"


def median(found: Sequence[Mapping[str, float]], key: str) -> float:
    """The median of one figure of several rounds."""
    return statistics.median(one[key] for one in found)


def need(*programs: str, drivers: bool = True) -> None:
    """Raises Absent unless all of these programs, and the drivers where they are asked for, are here."""
    if drivers and not (SHARED / "bench").is_dir():
        raise Absent("the drivers: no ../shared/bench, and MAILGUARD_SHARED names none")
    for program in programs:
        if not (shutil.which(program) or shutil.which(program, path="/usr/sbin")):
            raise Absent(f"{program} is not installed")


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder that other users may enter."""
    folder = Path(tempfile.mkdtemp(prefix="mailguard-bench-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Ours:
    """A running server of ours: its folder, ``offset`` of its ports, its first process, when it was ready."""

    folder: Path
    offset: int
    pid: int
    seconds_to_ready: float
    ready_at: float  # time.perf_counter()


@contextlib.contextmanager
def ours(
    folder: Path,
    *,
    users: Sequence[str] = ("u0",),
    policy: str | None = "",
    settings: Mapping[str, str] | None = None,
    prepare: Callable[[], None] = lambda: None,
) -> Iterator[Ours]:
    """Serves a.test with these users; ``policy`` is the text of policy.toml ("": no checks; None: the sample's).
    ``prepare`` is called before the server starts."""
    offset = _offset()
    chosen = {"workers": "2", "limits.per_network": "5000", "log.level": "warning", **(settings or {})}
    sets = [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]
    command("init", str(folder), "--domain", "a.test", "--port-offset", str(offset), *sets)
    config = folder / "mailguard.toml"
    for user in users:
        command("user", "add", f"{user}@a.test", "--password-stdin", "-c", str(config), stdin=PASSWORD)
    if policy is not None:
        (folder / "policy.toml").write_text(policy)
    prepare()
    began = time.perf_counter()
    with (folder / "log").open("w") as log:
        line = [sys.executable, "-m", "mailguard", "serve", "-c", str(config)]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=log, text=True)
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        raise SystemExit((folder / "log").read_text())
    try:
        ready_at = time.perf_counter()
        yield Ours(folder, offset, process.pid, ready_at - began, ready_at)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        process.stdout.close()


def command(*arguments: str, stdin: str = "") -> str:
    """Runs one command of ours; its output."""
    line = [sys.executable, "-m", "mailguard", *arguments]
    return subprocess.run(line, input=stdin, text=True, capture_output=True, check=True).stdout


def _offset() -> int:
    while True:
        offset = random.randrange(11_000, 31_000)
        with contextlib.ExitStack() as stack:
            try:
                for port in (25, 587, 465, 143, 993, 110, 995, 80, 443):
                    stack.enter_context(socket.create_server(("127.0.0.1", offset + port)))
            except OSError:
                continue
        return offset


@contextlib.contextmanager
def rival(base: Path, *names: str) -> Iterator[None]:
    """Runs ``postfix``, ``dovecot``, ``rspamd`` by the scripts of ../shared/bench/peers, below ``base``."""
    if os.geteuid() != 0:
        raise Absent("the rivals' scripts need root")
    started: list[str] = []
    lock = (Path(tempfile.gettempdir()) / "mailguard-bench.lock").open("w")  # the rivals have fixed ports
    try:
        _take(lock)
        for name in names:
            subprocess.run(_script(name, "start", base), check=True, stdout=subprocess.DEVNULL)
            started.append(name)
        yield
    finally:
        for name in reversed(started):
            subprocess.run(_script(name, "stop", base), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lock.close()


@contextlib.contextmanager
def names(base: Path) -> Iterator[None]:
    """The DNS of the corpus's sender, on 127.5.3.1: without one rspamd waits five seconds for each message."""
    script, environment = str(SHARED / "bench/peers/dns.sh"), {**os.environ, "BASE": str(base)}
    subprocess.run(["bash", script, "start"], env=environment, check=True, stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        subprocess.run(["bash", script, "stop"], env=environment, check=False)


def _take(lock: IO[str]) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another benchmark with rivals to end (`fuser {lock.name}` names it)", file=sys.stderr)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _script(name: str, what: str, base: Path) -> list[str]:
    return ["bash", str(SHARED / "bench" / "peers" / f"{name}.sh"), what, str(base)]


def drive(driver: str, *arguments: str) -> dict[str, Any]:
    """Runs a driver of ../shared/bench, or one of this folder by its path; its result."""
    line = [sys.executable, driver if driver.endswith(".py") else f"{driver}.py", *arguments]
    done = subprocess.run(line, cwd=SHARED / "bench", text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)}: {done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


class Imap:
    """A signed-in client that adds little of its own to what it measures."""

    def __init__(self, port: int, user: str, password: str = PASSWORD) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=300)
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._sock.makefile("rb", 1 << 18)
        self._file.readline()
        self.ask(f'LOGIN "{user}" "{password}"')

    def ask(self, command: str, literal: bytes = b"") -> float:
        """Milliseconds that a command takes, with a literal at its end if there is one; it must succeed."""
        began = time.perf_counter()
        if literal:
            self._sock.sendall(b"%b {%d}\r\n" % (f"t {command}".encode(), len(literal)))
            while not self._file.readline().startswith(b"+"):
                pass
            self._sock.sendall(literal + b"\r\n")
        else:
            self._sock.sendall(f"t {command}\r\n".encode())
        while not (line := self._file.readline()).startswith((b"t OK", b"t NO", b"t BAD")):
            if not line:
                raise SystemExit(f"{command}: the connection was closed")
        if not line.startswith(b"t OK"):
            raise SystemExit(f"{command}: {line!r}")
        return 1000 * (time.perf_counter() - began)

    def highest_modseq(self, mailbox: str) -> int:
        """Up to which changes there are."""
        self._sock.sendall(f"t STATUS {mailbox} (HIGHESTMODSEQ)\r\n".encode())
        text = ""
        while "t OK" not in text:
            text = self._file.readline().decode()
            if "HIGHESTMODSEQ " in text and text.startswith("* STATUS"):
                modseq = int(text.rpartition("HIGHESTMODSEQ ")[2].rstrip(")\r\n"))
        return modseq

    def close(self) -> None:
        """Hangs up."""
        self._file.close()
        self._sock.close()


def pss(pid: int) -> int:
    """Proportional memory of a process and all below it, in kilobytes."""
    total = 0
    for process in (pid, *_below(pid)):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
            total += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


def _below(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return children + [below for child in children for below in _below(child)]
    return []
