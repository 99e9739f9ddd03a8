from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailguard.cli.installation import find_installation
from mailguard.cli.junk import junk
from mailguard.testing import make_message

SPAM = "Our synergy webinar on blockchain gardening starts soon, click here: http://203.0.113.9/claim\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "mailguard.toml").write_text('hostname = "mx.example.org"\n')
    (tmp_path / "policy.toml").write_text('[[check]]\nplugin = "spamscore"\n')
    box = tmp_path / "data" / "mail" / "example.org" / "ann"
    for folder in ("cur", "new", "tmp", ".Junk/cur", ".Junk/new", ".Junk/tmp"):
        (box / folder).mkdir(parents=True)
    for n in range(3):
        junked = make_message(f"{SPAM}{n}\n", subject="Webinar", headers=[("Message-ID", f"<spam{n}@x>")])
        (box / ".Junk" / "cur" / f"{n}:2,S").write_bytes(bytes(junked))
        kept = make_message(f"See you at {n}.\n", subject="Lunch", headers=[("Message-ID", f"<ham{n}@x>")])
        (box / "cur" / f"{n}:2,S").write_bytes(bytes(kept))
    return tmp_path


def run(home: Path, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(junk, [*arguments, "-c", str(home / "mailguard.toml")], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def box(home: Path, name: str) -> str:
    return str(home / "data" / "mail" / "example.org" / "ann" / name)


def points(home: Path, *more: str) -> float:
    return json.loads(run(home, "explain", box(home, ".Junk/cur/0:2,S"), "--json", *more))["points"]


def test_train_teaches_once_and_untrain_takes_it_back(home):
    before = points(home, "--account", "ann@example.org")
    assert run(home, "train", "--spam", box(home, ".Junk")).endswith("3 learnt\n")
    taught = points(home, "--account", "ann@example.org")
    assert taught > before
    assert run(home, "train", "--spam", box(home, ".Junk")).endswith("3 already known\n")
    assert run(home, "untrain", "--ham", box(home, ".Junk")) == "3 never taught so\n"
    assert run(home, "untrain", "--spam", box(home, ".Junk")) == "3 taken back\n"
    assert points(home, "--account", "ann@example.org") < taught


def test_the_other_label_corrects(home):
    run(home, "train", "--spam", box(home, "cur"))
    assert run(home, "train", "--ham", box(home, "cur")).endswith("3 corrected\n")
    (row,) = json.loads(run(home, "stats", "--json"))
    assert (row["account"], row["ham"], row["spam"]) == ("ann@example.org", 3, 0)


def test_explain_speaks_in_sentences(home):
    text = run(home, "explain", box(home, ".Junk/cur/0:2,S"))
    assert "points, junk from 6" in text
    assert "a link goes to a bare address, 203.0.113.9" in text


def test_stats_and_rebuild(home):
    assert run(home, "stats") == "nothing was learnt yet\n"
    run(home, "train", "--spam", box(home, ".Junk"))
    run(home, "train", "--ham", box(home, "cur"))
    assert run(home, "stats").startswith("ann@example.org  3 ham and 3 spam learnt, last 2")
    before = points(home, "--account", "ann@example.org")
    (home / "data" / "plugins" / "spamscore" / "account" / "ann@example.org.spam").unlink()
    Path(box(home, "cur/0:2,S")).unlink()
    assert run(home, "rebuild", "ann@example.org") == "learnt 5 messages again; 1 lessons are about mail that is gone\n"
    assert points(home, "--account", "ann@example.org") == pytest.approx(before, abs=1.0)


def test_mail_from_elsewhere_needs_an_account(home, tmp_path_factory):
    file = tmp_path_factory.mktemp("else") / "1.eml"
    file.write_bytes(bytes(make_message(SPAM)))
    assert "say whose mail it is with --account" in run(home, "train", "--spam", str(file), code=2)
    assert run(home, "train", "--spam", "--account", "Ann@Example.org", str(file)).endswith("1 learnt\n")
    installation = find_installation(home / "mailguard.toml")
    assert (installation.data_dir / "plugins" / "spamscore" / "account" / "ann@example.org.spam").exists()
