"""Mail out, beside Postfix: a full queue drained to fifty destinations; from submission to delivery; a huge queue."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import harness
from harness import Row

from mailguard.delivery.queue import Prepared, Queue
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.state.database import Database, metadata
from mailguard.state.settings import StateSettings
from mailguard.testing import DnsServer

SINK = 2599  # where Postfix's script sends out.test
ROUNDS = 3
DESTINATIONS = 50
MESSAGES = 10_000
ENTRIES = 100_000
BODY = b"Subject: bench\r\n\r\n" + (b"x" * 76 + b"\r\n") * 128  # 10 KB
ZONE = "\n".join(f"d{n}.test. MX 10 sink.test." for n in range(DESTINATIONS)) + "\nsink.test. A 127.0.0.1\n"


def rows() -> Iterator[Row]:
    """Each case alternates between the servers; medians."""
    harness.need("postfix", "smtp-sink")
    with harness.scratch() as base, harness.rival(base, "postfix"):
        yield from _drain(base)
        yield from _through(base)
        yield from _huge(base)


# -- a full queue ------------------------------------------------------------------------------------------------


def _drain(base: Path) -> Iterator[Row]:
    etc = base / "postfix/etc"
    with (etc / "transport").open("a") as file:
        file.writelines(f"d{n}.test smtp:[127.0.0.1]:{SINK}\n" for n in range(DESTINATIONS))
    theirs, ours = [], []
    for number in range(ROUNDS):
        theirs.append(MESSAGES / _postfix_drain(etc))
        ours.append(MESSAGES / _our_drain(base / f"drain{number}"))
    what = f"{MESSAGES:,} x 10 KB queued, {DESTINATIONS} destinations: drained"
    yield Row(what, statistics.median(ours), statistics.median(theirs), "/s", 1, rival="Postfix")


def _postfix_drain(etc: Path) -> float:
    _postconf(etc, "defer_transports=smtp")
    recipients = [word for n in range(DESTINATIONS) for word in ("--rcpt", f"u@d{n}.test")]
    harness.drive(
        "smtp_load", "--port", str(harness.POSTFIX_PORT), *recipients, "--messages", str(MESSAGES),
        "--size", "10000", "--per-connection", "0", "--sessions", "10",
    )  # fmt: skip
    with Sink(MESSAGES) as sink:
        _postconf(etc, "defer_transports=")
        began = time.perf_counter()
        subprocess.run(["postqueue", "-c", str(etc), "-f"], check=True)
        return sink.wait() - began


def _postconf(etc: Path, setting: str) -> None:
    subprocess.run(["postconf", "-c", str(etc), "-e", setting], check=True)
    subprocess.run(["postfix", "-c", str(etc), "reload"], check=True, stderr=subprocess.DEVNULL)
    time.sleep(2)


def _our_drain(folder: Path) -> float:
    with (
        DnsServer(ZONE) as dns,
        Sink(MESSAGES) as sink,
        harness.ours(
            folder, settings=_settings(dns), prepare=lambda: _fill(folder / "data", MESSAGES, size=len(BODY))
        ) as server,
    ):
        return sink.wait() - server.ready_at


def _settings(dns: DnsServer) -> dict[str, str]:
    return {"dns.nameservers": f'["{dns.nameserver}"]', "relay.port": str(SINK), "relay.ipv6": "false"}


def _fill(data: Path, count: int, *, size: int) -> None:
    """Puts messages into the queue of a server that is not running: a thousand to a commit, and no fsync, for
    none of them matters."""
    data.mkdir(mode=0o700, exist_ok=True)
    database = Database(StateSettings(), data)
    metadata.create_all(database.engine)
    queue = Queue(database, data / "queue")
    sender, message = Address.parse("u0@a.test"), Message(BODY[:size])
    prepared: list[Prepared] = []
    fsync, os.fsync = os.fsync, lambda descriptor: None
    for number in range(count):
        to = Recipient(Address.parse(f"u@d{number % DESTINATIONS}.test"))
        prepared.append(queue.prepare(Envelope(f"q{number:06}", sender), message, [to]))
        if len(prepared) == 1000 or number + 1 == count:
            with database.write(durable=True) as connection:
                queue.insert_rows(connection, prepared)
            prepared = []
    os.fsync = fsync
    database.close()


# -- from submission to delivery ---------------------------------------------------------------------------------


_CAPS = ("messages_per_hour", "messages_per_day", "recipients_per_hour", "recipients_per_day", "new_recipients_per_day")
_NO_CAPS = {f"submission.{name}": "0" for name in _CAPS}


def _through(base: Path) -> Iterator[Row]:
    login = ("--user", "u0@a.test", "--password", harness.PASSWORD, "--starttls", "--sender", "u0@a.test")
    found: dict[str, list[float]] = {"ours": [], "theirs": []}
    with (
        DnsServer(ZONE + "out.test. MX 10 sink.test.\n") as dns,
        harness.ours(base / "through", settings=_settings(dns) | _NO_CAPS) as server,
    ):
        for _ in range(ROUNDS):
            for name, port, more in (("theirs", harness.POSTFIX_PORT, ()), ("ours", server.offset + 587, login)):
                told = ("--port", str(port), "--rcpt", "x@out.test", "--messages", "1500", *more)
                found[name].append(harness.drive("relay_load", *told)["relay_rate"])
    ours, theirs = (statistics.median(found[name]) for name in ("ours", "theirs"))
    yield Row("10 KB, 10 sessions: submitted and relayed", ours, theirs, "/s", 1, rival="Postfix")


# -- a huge queue ------------------------------------------------------------------------------------------------


def _huge(base: Path) -> Iterator[Row]:
    folder = base / "huge"
    with DnsServer("none.test. A 127.0.0.1") as dns:
        dns.dead = True
        small = _start(base / "small", dns, 0)
        large = _start(folder, dns, ENTRIES)
    what = f"{ENTRIES:,} entries queued"
    yield Row(f"{what}: server ready", large[0], 2.0, "s", 1, False, "bound")
    yield Row(f"{what}: memory (PSS)", large[1] / 1024, small[1] / 1024, "MB", 1.25, False, "empty queue")
    yield Row(f"{what}: queue list --json | head", large[2], 0.4, "s", 1, False, "bound")


def _start(folder: Path, dns: DnsServer, entries: int) -> tuple[float, float, float]:
    """Seconds to ready, kilobytes after ten seconds, seconds to the first ten lines of the list."""
    settings = {**_settings(dns), "dns.timeout": "1"}
    with harness.ours(folder, settings=settings, prepare=lambda: _fill(folder / "data", entries, size=500)) as server:
        time.sleep(10)
        memory = harness.pss(server.pid)
        began = time.perf_counter()
        line = f"{sys.executable} -m mailguard queue -c {folder}/mailguard.toml list --json | head"
        subprocess.run(line, shell=True, check=True, stdout=subprocess.DEVNULL)
        return server.seconds_to_ready, memory, time.perf_counter() - began


# -- the other end -----------------------------------------------------------------------------------------------


class Sink:
    """Postfix's smtp-sink, which counts; ``wait`` until it has taken so many."""

    def __init__(self, messages: int) -> None:
        self._messages = messages
        self._done = threading.Event()
        self._at = 0.0
        self._count = 0

    def __enter__(self) -> Sink:
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self._process = subprocess.Popen(
            ["smtp-sink", "-c", *user, f"127.0.0.1:{SINK}", "1000"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        threading.Thread(target=self._follow, daemon=True).start()
        time.sleep(0.5)
        return self

    def _follow(self) -> None:
        assert self._process.stdout is not None
        tail = b""
        while data := os.read(self._process.stdout.fileno(), 65536):
            tail = (tail + data)[-400:]
            if found := re.findall(rb"mesg=(\d+)[ \r]", tail):
                self._count = int(found[-1])
                if self._count >= self._messages and not self._done.is_set():
                    self._at = time.perf_counter()
                    self._done.set()

    def wait(self) -> float:
        """The moment (perf_counter) at which the last message came."""
        if not self._done.wait(300):
            raise SystemExit(f"only {self._count} of {self._messages} messages came")
        return self._at

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()
