"""Filters in a running server of two workers: one that hangs or breaks holds nobody else up, a reload takes hold of
all workers or of none, and what quarantine holds is delivered when it is released."""

from __future__ import annotations

import json
import os
import signal
import smtplib
import threading
import time
from collections.abc import Iterator
from typing import Any

import installed
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

USER1, _ = installed.USERS
MESSAGE = "From: Ann <ann@example.net>\r\nTo: user1@office.test\r\nSubject: {}\r\nMessage-ID: <{}@x>\r\n\r\ntext\r\n"

PLUGIN = """
import time

from mailguard.plugin import Finding, Moved, PluginInfo, hookimpl


@hookimpl
def describe():
    return PluginInfo("odd", words={"bad": "junk", "held": "quarantine"})


@hookimpl
def check_message(message):
    subject = message.get("Subject")
    if subject == "hang":
        time.sleep(60)
    if subject == "spin":
        while True:
            pass
    if subject == "hoard":
        hoard = []
        while True:
            hoard.append(bytearray(1 << 20))
            time.sleep(0.0005)
    if subject == "raise":
        raise RuntimeError("it broke")
    if subject == "nonsense":
        return 42
    return Finding("held", "to be looked at") if subject.startswith("hold") else None


@hookimpl
def observe(ctx, event):
    if isinstance(event, Moved):
        ctx.store.put("learnt", [event.source, event.target])
"""
POLICY = '[policy]\nmemory = 100\nfaults = 100\n\n[[check]]\nplugin = "odd"\ndeadline = 2\non = { error = "score 1" }\n'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    settings = ['dns.nameservers=["127.0.0.1:9"]', "workers=2", "log.level=info"]
    made = installed.Installed(tmp_path_factory.mktemp("filters") / "m", settings=settings)
    made.add_users()
    (made.folder / "plugins").mkdir(exist_ok=True)
    (made.folder / "plugins" / "odd.py").write_text(PLUGIN)
    (made.folder / "policy.toml").write_text(POLICY)
    made.start()
    yield made
    made.stop()


def send(server: Any, subject: str) -> float:
    """Sends a message; the seconds until its 250."""
    with smtplib.SMTP("127.0.0.1", server.port(25), timeout=60) as client:
        begun = time.monotonic()
        client.sendmail("ann@example.net", [USER1], MESSAGE.format(subject, subject.replace(" ", "-")))
        return time.monotonic() - begun


def subjects(server: Any, folder: str = "") -> list[str]:
    root = server.folder / "data/mail/office.test" / USER1.partition("@")[0] / folder
    paths = [path for name in ("new", "cur") if (root / name).is_dir() for path in (root / name).iterdir()]
    return sorted(path.read_text().partition("Subject: ")[2].partition("\n")[0].strip() for path in paths)


def test_filters_that_run_away_delay_nobody_else_and_lose_nothing(server: Any) -> None:
    odd = ["hang", "spin", "raise", "nonsense"]
    took: dict[str, float] = {}

    def one(subject: str) -> None:
        took[subject] = send(server, subject)

    threads = [threading.Thread(target=one, args=(subject,)) for subject in odd]
    for thread in threads:
        thread.start()
    plain = [f"plain {n}" for n in range(20)]
    for subject in plain:
        one(subject)
    for thread in threads:
        thread.join(60)
    assert max(took[subject] for subject in odd) < 20
    assert max(took[subject] for subject in plain) < 10
    one("hoard")
    assert took["hoard"] < 20
    assert subjects(server) == sorted([*odd, "hoard", *plain])
    assert len(server.workers()) == 2
    told = server.run("why", "<hang@x>").stdout
    assert 'odd found "error": the check failed -> score 1' in told
    assert "DeadlineError: no answer within 2 s" in told
    assert "HungryError" in server.run("why", "<hoard@x>").stdout
    assert "RuntimeError: it broke" in server.run("why", "<raise@x>").stdout


def test_a_reload_takes_hold_of_every_worker_or_of_none(server: Any) -> None:
    policy = server.folder / "policy.toml"
    policy.write_text(POLICY + '[[check]]\nplugin = "od"\n')
    server.signal(signal.SIGHUP)
    server.wait_for("reload refused")
    before = len(subjects(server))
    for n in range(12):
        send(server, f"after refusal {n}")
    assert len(subjects(server)) == before + 12
    rule = '[[rule]]\nname = "all"\nwhen = \'subject.startsWith("new")\'\nthen = "junk"\n'
    policy.write_text(POLICY + rule)
    server.signal(signal.SIGHUP)
    for _ in range(2):
        server.wait_for("reloaded")
    for n in range(12):
        send(server, f"new {n}")
    assert len(subjects(server, ".Junk")) == 12


def test_a_plugin_that_does_not_start_refuses_the_reload_for_all_and_for_successors(server: Any) -> None:
    policy = server.folder / "policy.toml"
    kept = policy.read_text()
    (server.folder / "plugins" / "broken.py").write_text(
        "from mailguard.plugin import PluginInfo, hookimpl\n\n\n@hookimpl\ndef describe():\n"
        '    return PluginInfo("broken", words={})\n\n\n@hookimpl\ndef start():\n    raise OSError("no table")\n'
    )
    policy.write_text(kept + '[[check]]\nplugin = "broken"\n')
    server.signal(signal.SIGHUP)
    assert "plugin broken does not start: no table" in server.wait_for("reload refused")
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    server.wait_for("a worker died and is replaced")
    until = time.monotonic() + 30
    while len(server.workers()) < 2 or victim in server.workers():
        assert time.monotonic() < until
        time.sleep(0.1)
    for n in range(4):
        send(server, f"new after {n}")
    assert len(subjects(server, ".Junk")) == 16
    policy.write_text(kept)


def test_a_policy_whose_own_test_fails_is_not_taken(server: Any) -> None:
    policy = server.folder / "policy.toml"
    kept = policy.read_text()
    policy.write_text(kept + '[[test]]\nname = "no"\nfacts = {}\nexpect = "reject"\n')
    server.signal(signal.SIGHUP)
    assert "fails: expected reject, got accept by default" in server.wait_for("reload refused")
    policy.write_text(kept)


def test_quarantine_holds_releases_and_teaches(server: Any) -> None:
    send(server, "hold this")
    assert "hold this" not in subjects(server)
    (held,) = json.loads(server.run("quarantine", "list", "--json").stdout)
    assert held["recipients"] == [USER1]
    assert "to be looked at" in server.run("quarantine", "show", held["id"]).stdout
    server.run("quarantine", "release", held["id"])
    until = time.monotonic() + 30
    while "hold this" not in subjects(server):
        assert time.monotonic() < until, server.log[-20:]
        time.sleep(0.1)
    told = server.run("why", held["id"]).stdout
    assert "It was held in quarantine because the check odd found" in told
    assert "released from quarantine by the postmaster" in told
    assert json.loads(server.run("quarantine", "list", "--json").stdout) == []


def test_what_the_server_refuses_by_itself_is_told_too(server: Any) -> None:
    with smtplib.SMTP("127.0.0.1", server.port(25), timeout=20) as client, pytest.raises(smtplib.SMTPException):
        client.sendmail("ann@example.net", ["nobody@office.test"], MESSAGE.format("x", "x"))
    until = time.monotonic() + 10
    while "nobody@office.test was refused" not in (told := server.run("trace", "--to", "nobody@office.test").stdout):
        assert time.monotonic() < until, told
        time.sleep(0.1)
