"""A locked database, a dead DNS, a stuck plugin, killed workers: the client hears the right code and nothing is
half-delivered or lost."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import threading
import time
from pathlib import Path

import pytest
import smtptalk

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Talk, mails, serving, send, has = smtptalk.Talk, smtptalk.mails, smtptalk.serving, smtptalk.send, smtptalk.has
USER1 = smtptalk.USER1


def test_a_locked_database_costs_nothing_that_needs_no_database(tmp_path: Path) -> None:
    with serving(tmp_path / "m") as server:
        other = sqlite3.connect(server.folder / "data/state.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        try:
            assert send(server, "local").startswith("250")  # to our own mailboxes: no database in the way
            with smtptalk.Talk(server.port(465), tls=True, timeout=60) as talk:
                talk.say("EHLO c.test")
                signed_in = talk.sign_in()
                if signed_in.startswith("235"):
                    talk.open("bob@elsewhere.test", USER1)
                    assert talk.data(b"Subject: remote").startswith("452 4.3.1")
                    assert "holds its lock" in server.wait_for("cannot be stored")
                else:
                    assert signed_in.startswith("454 4.7.0")
        finally:
            other.execute("ROLLBACK")
            other.close()
        with smtptalk.submitting(server) as talk:
            talk.open("bob@elsewhere.test", USER1)
            assert talk.data(b"Subject: remote again").startswith("250")
        assert has(server, "local")


def test_a_dns_that_never_answers_delays_within_bounds_and_accepts(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        dns = f'dns.nameservers=["127.0.0.1:{silent.getsockname()[1]}"]'
        policy = '[[check]]\nplugin = "spf"\n[[check]]\nplugin = "dkim"\n[[check]]\nplugin = "dmarc"\n'
        with serving(tmp_path / "m", dns, "dns.timeout=1", policy=policy) as server:
            began = time.monotonic()
            assert send(server, "no dns").startswith("250")
            assert time.monotonic() - began < 40
            assert has(server, "no dns")


STUCK = """
import time
from mailguard.plugin import Finding, PluginInfo, hookimpl

@hookimpl
def describe():
    return PluginInfo("stuck", words={"ok": "accept"})

@hookimpl
def check_message(ctx, session, envelope, message):
    time.sleep(3600)
"""


def test_a_stuck_plugin_is_left_behind(tmp_path: Path) -> None:
    policy = '[[check]]\nplugin = "stuck"\ndeadline = 1\n'
    with serving(tmp_path / "m", "workers=1", policy=policy, plugin=STUCK) as server:
        for n in range(3):
            began = time.monotonic()
            assert send(server, f"stuck {n}").startswith("250")
            assert time.monotonic() - began < 15
        assert all(has(server, f"stuck {n}") for n in range(3))
        assert [line for line in server.log if "plugin=stuck" in line or "plugin stuck" in line], server.log


def test_killed_workers_lose_nothing_and_are_replaced(tmp_path: Path) -> None:
    with serving(tmp_path / "m", "workers=2") as server:
        taken: list[str] = []
        stop = threading.Event()

        def keep_sending(name: int) -> None:
            n = 0
            while not stop.is_set():
                n += 1
                subject = f"k{name}-{n}-end"
                try:
                    if send(server, subject, timeout=20).startswith("250"):
                        taken.append(subject)
                except (OSError, AssertionError):
                    time.sleep(0.05)

        threads = [threading.Thread(target=keep_sending, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            time.sleep(1.5)
            os.kill(server.workers()[0], signal.SIGKILL)
            server.wait_for("a worker died and is replaced")
        time.sleep(1.5)
        stop.set()
        for thread in threads:
            thread.join(30)
        assert len(taken) > 20
        kept = b"".join(mails(server, USER1))
        assert [subject for subject in taken if f"Subject: {subject}\r\n".encode() not in kept] == []
        assert len(server.workers()) == 2


def test_no_thread_is_left_behind(tmp_path: Path) -> None:
    with serving(tmp_path / "m", "workers=1", "limits.per_network=200") as server:
        send(server, "warm-up")
        (worker,) = server.workers()

        def threads() -> int:
            return len(list(Path(f"/proc/{worker}/task").iterdir()))

        before = threads()
        for n in range(120):
            with Talk(server.port(25)) as talk:
                talk.say("EHLO c.test")
                if n % 2:
                    talk.open()
                    talk.say("DATA")
                    talk.send(b"Subject: gone\r\n")
        until = time.monotonic() + 10
        while threads() > before + 24 and time.monotonic() < until:
            time.sleep(0.1)
        assert threads() <= before + 24  # those that wait for the next connection
        assert smtptalk.leftovers(server) == []
