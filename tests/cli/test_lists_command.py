from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mailguard.cli.installation import find_installation
from mailguard.cli.policy import policy

POLICY = """\
# our policy
[policy]
deny = ["casino.example"]  # nobody needs it

[[override]]
recipients = ["ann@example.org"]
score = { junk = 9 }  # she wants to see it
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "mailguard.toml").write_text('hostname = "mx.example.org"\n')
    (tmp_path / "policy.toml").write_text(POLICY)
    return tmp_path


def run(home: Path, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(policy, [*arguments, "-c", str(home / "mailguard.toml")], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def general(home: Path):
    return find_installation(home / "mailguard.toml").policy.general


def overrides(home: Path):
    found = find_installation(home / "mailguard.toml").policy.overrides
    return {o.model.recipients: (o.model.allow, o.model.deny) for o in found}


def test_for_everybody_with_every_comment_kept(home):
    told = run(home, "allow", "Friend@Partner.example")
    assert (
        told == "friend@partner.example is on the allow list for everybody now (policy.toml); a reload makes it count\n"
    )
    assert run(home, "allow", "friend@partner.example").startswith("friend@partner.example is already on")
    run(home, "deny", "spam.example")
    assert general(home).allow == ("friend@partner.example",)
    assert general(home).deny == ("casino.example", "spam.example")
    text = (home / "policy.toml").read_text()
    for comment in ("# our policy", "# nobody needs it", "# she wants to see it"):
        assert comment in text


def test_for_one_recipient_or_domain(home):
    run(home, "deny", "noisy.example", "--for", "ann@example.org")
    run(home, "allow", "news.example", "--for", "sales.example.org")
    assert overrides(home) == {
        ("ann@example.org",): ((), ("noisy.example",)),
        ("sales.example.org",): (("news.example",), ()),
    }


def test_from_one_list_to_the_other_and_off_again(home):
    run(home, "allow", "casino.example")
    assert (general(home).allow, general(home).deny) == (("casino.example",), ())
    run(home, "allow", "casino.example", "--remove")
    assert (general(home).allow, general(home).deny) == ((), ())
    assert "is not on the allow list" in run(home, "allow", "casino.example", "--remove")


def test_without_a_policy_file_one_is_made(home):
    (home / "policy.toml").unlink()
    run(home, "deny", "casino.example", "--for", "ann@example.org")
    assert overrides(home) == {("ann@example.org",): ((), ("casino.example",))}


@pytest.mark.parametrize("name", ["a b", "@", "x@", "not..a.domain"])
def test_nonsense_is_told(home, name):
    assert "is neither an address nor a domain" in run(home, "allow", name, code=2)
    assert (home / "policy.toml").read_text() == POLICY
