from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner

from mailguard.cli.installation import find_installation
from mailguard.cli.plugins import plugins
from mailguard.cli.policy import policy
from mailguard.cli.try_ import try_
from mailguard.cli.why import trace, why
from mailguard.pipeline.engine import Engine
from mailguard.pipeline.record import Recorder
from mailguard.testing import FakeResolver, MemoryStore, make_envelope, make_message, make_session

POLICY = """\
[[check]]
plugin = "skeleton"
on = { shouting = "score 4" }

[[rule]]
name = "raffles"
when = 'subject.contains("RAFFLE")'
then = "reject"

[score]
junk = 3

[[test]]
name = "shouting is junk"
facts = { found = { skeleton = "shouting" } }
expect = "junk"
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "mailguard.toml").write_text('hostname = "mx.example.org"\ndata_dir = "data"\n')
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.fixture
def received(home: Path) -> Path:
    """Three messages went through the engine."""
    installation = find_installation(home / "mailguard.toml")
    recorder = Recorder(installation.database)
    engine = Engine(
        installation.policy,
        dns=FakeResolver(),
        store_for=lambda _: MemoryStore(),
        state_dir=home,
        hostname="mx.example.org",
        log=structlog.get_logger(),
        recorder=recorder,
    )
    engine.start()
    for n, subject in enumerate(["Hellö Ännchen", "BIG SHOUTING", "WIN THE RAFFLE"]):
        session, envelope = make_session(), make_envelope(id=f"M{n}")
        message = make_message(raw=f"From: alice@example.net\nSubject: {subject}\nMessage-ID: <{n}@example.net>\n\nx\n")
        mail = engine.connect(session).mail(session, envelope)
        mail.recipient(envelope, envelope.recipients[0].address)
        verdict = mail.message(envelope, message)
        if not verdict.action.refuses:
            mail.outcome({"bob@example.org": f"bob@example.org/{verdict.action.value}"})
            (home / f"{n}.eml").write_bytes(bytes(mail.stamp(envelope, message, verdict)))
    engine.stop()
    recorder.stop()
    installation.database.close()
    return home


def run(home: Path, command, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(command, [*arguments, "-c", str(home / "mailguard.toml")], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def test_why_by_id_message_id_and_file(received):
    by_id = run(received, why, "M1")
    assert "It was delivered to Junk because its score of 4.0 reached the limit of 3 (policy.toml:11)." in by_id
    assert "skeleton found \"shouting\": the subject 'BIG SHOUTING' is written in capitals" in by_id
    assert 'had skeleton not found "shouting", it would have been accepted (score 0.0)' in by_id
    assert "stored for bob@example.org: bob@example.org/junk" in by_id
    assert run(received, why, "<1@example.net>") == by_id
    assert run(received, why, str(received / "1.eml")) == by_id
    (told,) = json.loads(run(received, why, "M1", "--json"))
    assert told["action"] == "junk"
    assert "there is no record of M9; records are kept for 30 days" in run(received, why, "M9", code=1)


def test_why_of_a_rule_says_what_would_have_been_without_it(received):
    told = run(received, why, "M2")
    assert 'It was refused because the rule "raffles" holds (policy.toml:5).' in told
    assert "The client was told: 550 5.7.1 refused by our policy: raffles (M2)" in told
    assert "without this rule it would have gone to Junk" in told


def test_trace_searches(received):
    assert run(received, trace, "--subject", "shouting big").count("\n") == 2
    assert "M2" in run(received, trace, "--action", "reject")
    assert len(json.loads(run(received, trace, "--from", "ALICE", "--to", "bob", "--json"))) == 3
    assert len(json.loads(run(received, trace, "alice", "the", "BOB@", "--json"))) == 1
    assert "M0" in run(received, trace, "--subject", "ÄNNCHEN hellÖ")
    assert run(received, trace, "carol") == "nothing found\n"
    assert run(received, trace, "--since", "2030-01-01") == "nothing found\n"
    assert "neither like 7d" in run(received, trace, "--since", "yesterday", code=2)


def test_policy_show_and_test(home):
    assert run(home, policy, "show") == POLICY
    shown = run(home, policy, "show", "--effective")
    assert re.search(r"(?m)^  skeleton shouting +score 4 +policy.toml:3$", shown)
    assert re.search(r"(?m)^  skeleton options.letters +\d+ +default of skeleton$", shown)
    assert "policy.toml:11" in shown
    assert "ok    shouting is junk\n1 tests, 0 failed" in run(home, policy, "test")
    (home / "policy.toml").write_text(POLICY.replace("junk = 3", "junk = 5"))
    failed = run(home, policy, "test", code=1)
    assert "FAIL  shouting is junk\n      policy.toml:13: expected junk, got accept by default" in failed


def test_show_for_one_recipient(home):
    extra = '[[override]]\nrecipients = ["sales.example"]\nscore = { junk = 9 }\nallow = ["friend.example"]\n'
    (home / "policy.toml").write_text(POLICY + extra)
    shown = run(home, policy, "show", "--for", "ann@sales.example")
    assert "score >= 9" in shown
    assert "from friend.example" in shown
    assert "score >= 3" in run(home, policy, "show", "--for", "ann@other.example")


def test_show_names_the_very_line_of_each_thing(home):
    extra = (
        '[[override]]\nrecipients = ["sales.example"]\nallow = ["friend.example"]\n'
        'deny = ["foe.example"]\nscore = { junk = 9 }\n[override.checks.skeleton]\nmode = "observe"\n'
    )
    text = POLICY.replace('plugin = "skeleton"', 'plugin = "skeleton"\nmode = "enforce"\noptions = { letters = 20 }')
    (home / "policy.toml").write_text(text + extra)
    everyone = json.loads(run(home, policy, "show", "--effective", "--json"))
    at = {row["what"].strip(): (row["does"], row["where"]) for row in everyone}
    assert at["check skeleton"] == ("enforce", "policy.toml:3")
    assert at["skeleton options.letters"] == ("20", "policy.toml:4")
    assert at["skeleton shouting"] == ("score 4", "policy.toml:5")
    sales = json.loads(run(home, policy, "show", "--for", "ann@sales.example", "--json"))
    at = {row["what"].strip(): (row["does"], row["where"]) for row in sales}
    assert at["check skeleton"] == ("observe", "policy.toml:25")
    assert at["score >= 9"] == ("junk", "policy.toml:23")
    assert at["from friend.example"] == ("accept (if vouched for)", "policy.toml:21")
    assert at["from foe.example"] == ("junk", "policy.toml:22")


def test_diff_says_which_checks_nobody_ran_then(received):
    new = received / "new.toml"
    new.write_text('[[check]]\nplugin = "iprev"\n' + POLICY)
    told = run(received, policy, "diff", str(new))
    assert "not known of that time, counted as nothing found: iprev" in told
    assert json.loads(run(received, policy, "diff", str(new), "--json"))["unknown_checks"] == ["iprev"]


def test_policy_diff_replays_what_was_stored(received):
    new = received / "new.toml"
    new.write_text(POLICY.replace("junk = 3", "junk = 5").replace("RAFFLE", "LOTTERY"))
    told = run(received, policy, "diff", str(new))
    assert told.startswith("3 verdicts decided anew, 2 would have ended differently\n\nalice@example.net (2)\n")
    assert "M1  junk -> accept  by default  BIG SHOUTING" in told
    assert "M2  reject -> accept  by default  WIN THE RAFFLE" in told
    assert json.loads(run(received, policy, "diff", str(new), "--json"))["records"] == 3
    assert run(received, policy, "diff", str(received / "policy.toml")).startswith("3 verdicts decided anew, 0 ")


def test_a_bad_policy_ends_a_command_with_every_mistake(home):
    (home / "policy.toml").write_text('[[check]]\nplugin = "skelton"\nmod = "off"\n')
    told = run(home, policy, "test", code=2)
    assert 'policy.toml:3:1: check.0.mod: there is no setting "mod" (did you mean "mode"?)' in told


def test_try_delivers_nothing_and_explains(home):
    path = home / "x.eml"
    path.write_bytes(b"From: alice@example.net\nSubject: BIG SHOUTING\n\nx\n")
    told = run(home, try_, str(path), "--ip", "198.51.100.7", "--rcpt", "bob@example.org", "--show-headers", code=1)
    assert "It was delivered to Junk because its score of 4.0 reached the limit of 3" in told
    assert "by 198.51.100.7 (localhost)" in told
    assert "X-Mailguard: id=TRIAL; action=junk" in told
    assert run(home, trace) == "nothing found\n"
    path.write_bytes(b"From: alice@example.net\nSubject: quiet\n\nx\n")
    assert "It was accepted because nothing spoke against it." in run(home, try_, str(path))


def test_plugins_list_and_show(home):
    (home / "plugins").mkdir()
    source = Path(__file__).parents[2] / "plugins" / "skeleton" / "mailguard_skeleton.py"
    (home / "plugins" / "loose.py").write_text(source.read_text().replace('"skeleton"', '"loose"'))
    listed = run(home, plugins, "list")
    assert "skeleton         enforce" in listed
    assert "loose            not in use" in listed
    shown = run(home, plugins, "show", "loose")
    assert "shouting       score 1      the subject is written in capitals" in shown
    assert "letters        8" in shown
    assert "there is no plugin" in run(home, plugins, "show", "nothing", code=1)


@pytest.mark.slow
def test_a_new_plugin_has_a_test_that_passes(tmp_path):
    result = CliRunner().invoke(plugins, ["new", "capitals", "--folder", str(tmp_path / "capitals")])
    assert result.exit_code == 0, result.output
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "capitals")]
    done = subprocess.run(command, cwd=tmp_path / "capitals", capture_output=True, text=True, timeout=60)
    assert "3 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
def test_ten_thousand_verdicts_are_replayed_in_seconds(received):
    installation = find_installation(received / "mailguard.toml")
    from mailguard.pipeline.replay import replay
    from mailguard.state import record

    (one,) = record.find(installation.database, "M1")
    begun = time.process_time()
    assert replay(installation.policy, [one] * 10_000).count == 10_000
    assert time.process_time() - begun < 5
    installation.database.close()
