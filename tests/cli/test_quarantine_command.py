from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailguard.cli.installation import find_installation
from mailguard.cli.junk import junk
from mailguard.cli.quarantine import quarantine
from mailguard.delivery.queue import Queue
from mailguard.state.kv import KeyValueStore
from mailguard.state.quarantine import REASON
from mailguard.testing import make_envelope, make_message


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "mailguard.toml").write_text('hostname = "mx.example.org"\n')
    (tmp_path / "data" / "queue").mkdir(parents=True)
    installation = find_installation(tmp_path / "mailguard.toml")
    queue = Queue(installation.database, tmp_path / "data" / "queue")
    for n in (1, 2):
        envelope = make_envelope(id=f"HELD{n}", rcpt_to=["ann@example.org", "bob@example.org"])
        queue.put(envelope, make_message(subject=f"Held {n}"), envelope.recipients, hold=True, reason=REASON)
    other = make_envelope(id="OTHER")
    queue.put(other, make_message(), other.recipients, hold=True, reason="asked for")
    installation.database.close()
    return tmp_path


def run(home: Path, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(quarantine, [*arguments, "-c", str(home / "mailguard.toml")], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_list_and_show(home):
    listed = json.loads(run(home, "list", "--json"))
    assert [(mail["id"], mail["recipients"]) for mail in listed] == [
        ("HELD1", ["ann@example.org", "bob@example.org"]),
        ("HELD2", ["ann@example.org", "bob@example.org"]),
    ]
    assert "HELD1  alice@example.net -> ann@example.org bob@example.org" in run(home, "list")
    assert "Subject: Held 2\n" in run(home, "show", "HELD2")
    assert run(home, "show", "HELD2", "--raw").endswith("Hello\n")
    assert "OTHER is not in quarantine" in run(home, "show", "OTHER", code=1)


def test_release_makes_it_due(home):
    assert run(home, "release", "HELD1") == "released to 2 recipients: ann@example.org, bob@example.org\n"
    assert [mail["id"] for mail in json.loads(run(home, "list", "--json"))] == ["HELD2"]
    installation = find_installation(home / "mailguard.toml")
    queue = Queue(installation.database, home / "data" / "queue")
    (work,) = queue.claim("example.org", limit=10, lease_seconds=60)
    assert work.message.envelope.id == "HELD1"
    installation.database.close()


PLUGIN = """
from pathlib import Path
from mailguard.plugin import Moved, PluginInfo, hookimpl

@hookimpl
def describe():
    return PluginInfo("pupil", words={})

@hookimpl
def observe(ctx, event):
    if isinstance(event, Moved):
        words = [event.source, event.target, event.account, Path(event.path).read_text().partition("Subject: ")[2][:6]]
        ctx.store.put(f"lesson/{event.account}", words)
"""


@pytest.fixture
def pupil(home):
    (home / "plugins").mkdir()
    (home / "plugins" / "pupil.py").write_text(PLUGIN)
    (home / "policy.toml").write_text('[[check]]\nplugin = "pupil"\n')

    def lessons():
        installation = find_installation(home / "mailguard.toml")
        try:
            return KeyValueStore(installation.database, "pupil").items()
        finally:
            installation.database.close()

    return lessons


def test_release_teaches_each_recipients_filter(home, pupil):
    run(home, "release", "HELD1")
    assert pupil() == [
        ("lesson/ann@example.org", ["Quarantine", "INBOX", "ann@example.org", "Held 1"]),
        ("lesson/bob@example.org", ["Quarantine", "INBOX", "bob@example.org", "Held 1"]),
    ]


def test_release_teaches_the_spam_filter_that_it_was_wanted(home):
    (home / "policy.toml").write_text('[[check]]\nplugin = "spamscore"\n')

    def learnt() -> list[tuple[str, int, int]]:
        asked = CliRunner().invoke(
            junk, ["stats", "--json", "-c", str(home / "mailguard.toml")], catch_exceptions=False
        )
        return [(row["account"], row["ham"], row["spam"]) for row in json.loads(asked.output)]

    run(home, "release", "HELD1")
    assert learnt() == [("ann@example.org", 1, 0), ("bob@example.org", 1, 0)]
    run(home, "drop", "HELD2", "--spam", "--yes")  # one with the same id and text: taken for the same, and corrected
    assert learnt() == [("ann@example.org", 0, 1), ("bob@example.org", 0, 1)]


def test_release_without_learning_and_drop_as_spam(home, pupil):
    run(home, "release", "HELD1", "--no-learn")
    assert pupil() == []
    run(home, "drop", "HELD2", "--spam", "--yes")
    assert [value[:2] for _, value in pupil()] == [["Quarantine", "Junk"]] * 2


def test_a_filter_that_fails_to_learn_holds_nothing_up(home, pupil):
    path = home / "plugins" / "pupil.py"
    path.write_text(path.read_text().replace("words = [", "words = 1 / 0, ["))
    result = CliRunner().invoke(quarantine, ["release", "HELD1", "-c", str(home / "mailguard.toml")])
    assert result.exit_code == 0
    assert "not learnt: pupil: ZeroDivisionError" in result.output
    assert "released to 2 recipients" in result.output


def test_drop_removes_rows_and_body(home):
    before = len(list((home / "data" / "queue").glob("*.eml")))
    assert run(home, "drop", "HELD1", "--yes") == "dropped HELD1\n"
    assert len(list((home / "data" / "queue").glob("*.eml"))) == before - 1
    assert "HELD1 is not in quarantine" in run(home, "release", "HELD1", code=1)
