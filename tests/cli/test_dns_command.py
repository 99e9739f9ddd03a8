"""``mailguard dns`` over a small installation, with a resolver that is dead."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailguard.cli.dns import dns


@pytest.fixture
def config(tmp_path: Path) -> str:
    main = tmp_path / "mailguard.toml"
    main.write_text(
        'hostname = "mail.office.test"\n[dns]\nnameservers = ["127.0.0.1:1"]\ntimeout = 0.5\n'
        '[[listener]]\nkind = "imaps"\n[[listener]]\nkind = "submissions"\n'
    )
    accounts = tmp_path / "accounts.toml"
    accounts.write_text('[[domain]]\nname = "office.test"\n[[account]]\naddress = "a@office.test"\n')
    return str(main)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(dns, arguments)
    return result.exit_code, result.output


@pytest.mark.parametrize("style", ["zone", "table", "nsupdate"])
def test_show(config: str, style: str) -> None:
    code, text = run("show", "-c", config, "--format", style, "--address", "192.0.2.10")
    assert code == 0, text
    for part in ("_imaps._tcp", "v=spf1", "192.0.2.10"):
        assert part in text


def test_show_json(config: str) -> None:
    code, text = run("show", "-c", config, "--format", "json", "office.test", "--address", "192.0.2.10")
    assert code == 0
    assert {"name": "office.test", "type": "MX", "data": "10 mail.office.test"}.items() <= json.loads(text)[2].items()


def test_a_foreign_domain_is_one_line(config: str) -> None:
    code, text = run("show", "-c", config, "elsewhere.test", "--address", "192.0.2.10")
    assert (code, text) == (1, "Error: elsewhere.test is not among our domains: office.test\n")


def test_check_with_a_dead_resolver(config: str) -> None:
    code, text = run("check", "-c", config, "--json", "--address", "192.0.2.10")
    assert code == 1
    assert {entry["state"] for entry in json.loads(text) if entry["record"]} == {"unknown"}
    assert all(entry["state"] != "ok" for entry in json.loads(text))


def test_an_address_that_is_none_is_one_line(config: str) -> None:
    code, text = run("show", "-c", config, "--address", "192.0.2")
    assert code == 2 and text.endswith("Error: 192.0.2 is not an IP address\n")
