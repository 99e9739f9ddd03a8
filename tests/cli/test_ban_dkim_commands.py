"""`mailguard ban` and `mailguard dkim`: what the operator sees and what the files and the database say afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mailguard.auth.throttle import Throttle
from mailguard.cli.main import mailguard as main
from mailguard.config.schema import load_config
from mailguard.state.database import Database
from mailguard.state.migrate import prepare
from mailguard.testing import DnsServer


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


# -- what the DNS says of the keys ----------------------------------------------------------------------------


@pytest.fixture
def dns(config: Path) -> Iterator[DnsServer]:
    """The name server that this installation asks; it knows nothing yet."""
    with DnsServer("office.test. MX 10 mail.office.test.") as server:
        named = f'[dns]\nnameservers = ["127.0.0.1:{server.port}"]\n'
        config.write_text(config.read_text().replace("[dns]\n", named))
        yield server


def keys(config: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(run(config, "dkim", "list", "--json").output)
    return found


def publish(dns: DnsServer, rows: list[dict[str, str]]) -> None:
    for row in rows:
        pieces = " ".join(f'"{row["record"][at : at + 200]}"' for at in range(0, len(row["record"]), 200))
        dns.add(f"{row['record_name']}. TXT {pieces}")


def test_check_warns_of_keys_that_nobody_can_look_up(config: Path, dns: DnsServer) -> None:
    assert "warning" not in run(config, "check").output  # no keys, no questions
    run(config, "dkim", "add", "office.test")
    rows = keys(config)
    done = run(config, "check")
    assert done.exit_code == 0
    for row in rows:
        assert f"warning: {Path(row['file']).parent}: {row['record_name']}: not published" in done.output
        assert f"(publish TXT {row['record']} at {row['record_name']})" in done.output
    publish(dns, rows[:1])
    publish(dns, [{**rows[1], "record": "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="}])
    told = json.loads(run(config, "check", "--json").output)
    assert [entry["text"] for entry in told] == [f"{rows[1]['record_name']}: another key is published"]
    dns.remove(f"{rows[1]['record_name']}.")
    publish(dns, rows[1:])
    assert json.loads(run(config, "check", "--json").output) == []


def test_check_of_keys_with_a_dead_dns_says_so_and_ends(config: Path, dns: DnsServer) -> None:
    run(config, "dkim", "add", "office.test")
    dns.fail("office.test.", "ANY")
    for row in keys(config):
        dns.fail(f"{row['record_name']}.")
    done = run(config, "check")
    assert done.exit_code == 0 and "the DNS does not answer (check the resolver" in done.output


def test_rotation_waits_for_the_records_of_the_new_keys(config: Path, dns: DnsServer) -> None:
    run(config, "dkim", "add", "office.test")
    old = keys(config)
    publish(dns, old)
    first = run(config, "dkim", "rotate", "office.test")
    assert "Publish these, then run `mailguard dkim rotate office.test` again" in first.output
    new = [row for row in keys(config) if row["state"] == "waits for its record"]
    assert len(new) == 2 and all(row["record_name"] in first.output for row in new)
    assert {row["selector"] for row in keys(config) if row["state"] == "signs"} == {row["selector"] for row in old}
    publish(dns, new[:1])
    half = run(config, "dkim", "rotate", "office.test")  # one of two: the old ones go on signing
    assert new[1]["record_name"] in half.output and new[0]["record_name"] not in half.output
    publish(dns, new[1:])
    done = run(config, "dkim", "rotate", "office.test")
    assert f"signed with {', '.join(sorted(row['selector'] for row in new))} from now on" in done.output
    states = {row["selector"]: row["state"] for row in keys(config)}
    assert states == {row["selector"]: "signs" for row in new} | {row["selector"]: "retired" for row in old}
    assert json.loads(run(config, "check", "--json").output) == []
