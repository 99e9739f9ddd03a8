"""`mailguard ban` and `mailguard dkim`: what the operator sees and what the files and the database say afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mailguard.auth.throttle import Throttle
from mailguard.cli.main import mailguard as main
from mailguard.config.schema import load_config
from mailguard.state.database import Database
from mailguard.state.migrate import prepare


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "server"
    done = CliRunner().invoke(main, ["init", str(folder), "--domain", "office.test", "--port-offset", "12000"])
    assert done.exit_code == 0, done.output
    (folder / "data").mkdir(exist_ok=True)
    return folder / "mailguard.toml"


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(main, [*words, "-c", str(config)])


def test_a_ban_is_listed_with_its_reason_and_lifted(config: Path) -> None:
    loaded = load_config(config)
    database = Database(loaded.main.state, loaded.data_dir)
    prepare(database)
    Throttle(database, loaded.main.auth).ban("192.0.2.7", 600, "9 distinct wrong passwords")
    (row,) = json.loads(run(config, "ban", "list", "--json").output)
    assert (row["network"], row["reason"], row["account"]) == ("192.0.2.7", "9 distinct wrong passwords", None)
    assert 1 <= row["minutes_left"] <= 10
    lifted = run(config, "ban", "remove", "192.0.2.7")
    assert lifted.exit_code == 0 and "may sign in again" in lifted.output
    assert json.loads(run(config, "ban", "list", "--json").output) == []


def test_lifting_a_ban_that_is_not_there_says_where_to_look(config: Path) -> None:
    done = run(config, "ban", "remove", "192.0.2.8")
    assert done.exit_code == 1
    assert "there is no ban on 192.0.2.8; `mailguard ban list` shows them all" in done.output


def test_dkim_keys_are_listed_with_their_records(config: Path) -> None:
    added = run(config, "dkim", "add", "office.test")
    assert added.exit_code == 0, added.output
    rows = json.loads(run(config, "dkim", "list", "office.test", "--json").output)
    assert {row["domain"] for row in rows} == {"office.test"}
    for row in rows:
        assert row["record_name"] == f"{row['selector']}._domainkey.office.test"
        assert "p=" in row["record"] and Path(row["file"]).is_file()


def test_rotation_signs_with_new_keys_and_keeps_the_old_ones_for_now(config: Path) -> None:
    run(config, "dkim", "add", "office.test")
    before = {row["selector"]: row["state"] for row in json.loads(run(config, "dkim", "list", "--json").output)}
    done = run(config, "dkim", "rotate", "office.test", "--now")
    assert done.exit_code == 0, done.output
    assert "Leave the records of the old keys for a week." in done.output
    after = {row["selector"]: row["state"] for row in json.loads(run(config, "dkim", "list", "--json").output)}
    assert before.keys() < after.keys()
    new = after.keys() - before.keys()
    assert all(selector in done.output for selector in new)
    assert len({after[s] for s in new}) == 1
    assert not {after[s] for s in new} & {after[s] for s in before}


def test_dkim_of_a_domain_that_is_not_ours_is_refused(config: Path) -> None:
    done = run(config, "dkim", "rotate", "elsewhere.test", "--now")
    assert done.exit_code != 0 and "elsewhere.test" in done.output
