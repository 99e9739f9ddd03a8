"""Mistakes in configuration files: all at once, each with file, line, dotted path and a suggestion."""

from __future__ import annotations

from pathlib import Path

import pytest
import tomlkit

from mailguard.config.decode import ConfigError
from mailguard.config.edit import append_table, edit_file, with_settings
from mailguard.config.schema import load_config

MAIN = """\
hostname = "mail.office.test"
[dns]
nameservers = ["127.0.0.1:53"]  # ours
[[listener]]
kind = "smtp"
port = 2525
"""
ACCOUNTS = """\
[[domain]]
name = "office.test"
[[account]]
address = "ann@office.test"
"""


def files(folder: Path, main: str = MAIN, accounts: str = ACCOUNTS) -> Path:
    (folder / "accounts.toml").write_text(accounts)
    (folder / "mailguard.toml").write_text(main)
    return folder / "mailguard.toml"


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_config(path, overrides)
    return [str(p).replace(f"{path.parent}/", "") for p in error.value.problems]


def test_a_good_one(tmp_path: Path) -> None:
    config = load_config(files(tmp_path), ["workers=3", "listener.0.port=2626", "log.level=debug"])
    assert (config.workers, config.main.listener[0].tcp_port, config.main.log.level) == (3, 2626, "debug")
    assert config.data_dir == tmp_path / "data"
    assert config.directory.account("ann@office.test") is not None


def test_every_mistake_of_both_files_at_once(tmp_path: Path) -> None:
    main = MAIN.replace("nameservers", "nameserver").replace('"smtp"', '"smpt"').replace("2525", "70000")
    assert problems(files(tmp_path, main, ACCOUNTS + "disbled = true\n")) == [
        'mailguard.toml:3:1: dns.nameserver: there is no setting "nameserver" (did you mean "nameservers"?)',
        'mailguard.toml:5:9: listener.0.kind: "smpt" is not possible here (did you mean "smtp"?)',
        "mailguard.toml:6:8: listener.0.port: input should be less than or equal to 65535",
        'accounts.toml:5:1: account.0.disbled: there is no setting "disbled" (did you mean "disabled"?)',
    ]


def test_missing_files_and_broken_toml(tmp_path: Path) -> None:
    assert "there is no such file (`mailguard init DIR" in problems(tmp_path / "mailguard.toml")[0]
    path = files(tmp_path, MAIN + "x = \n")
    plainly = "no value that TOML knows: text needs quotes, and every bracket its other half"
    assert problems(path) == [f"mailguard.toml:7:5: {plainly}"]
    (tmp_path / "accounts.toml").unlink()
    files(tmp_path).with_name("accounts.toml").unlink()
    assert problems(path) == ["accounts.toml: there is no such file (`accounts` in mailguard.toml names it)"]


def test_overrides_are_named_as_such(tmp_path: Path) -> None:
    path = files(tmp_path)
    assert problems(path, "dns.timeout=0") == ["--set: dns.timeout: input should be greater than 0"]
    assert problems(path, "nonsense") == ["--set: 'nonsense' is not of the form dotted.key=VALUE"]
    assert problems(path, "listener.7.port=1") == ["--set: listener.7.port: there is nothing of that name to set"]


def test_doubles(tmp_path: Path) -> None:
    path = files(tmp_path, MAIN + '[[listener]]\nkind = "imap"\nport = 2525\n', ACCOUNTS + ACCOUNTS)
    assert problems(path) == [
        "accounts.toml:6:1: domain.1.name: the domain office.test is named twice (remove one of the two)",
        "accounts.toml:8:1: account.1.address: ann@office.test is already taken by account.0.address"
        " (remove one of the two)",
        "mailguard.toml:7:1: listener.1: 0.0.0.0:2525 is already that of listener 0 (give it another port or address)",
    ]


def test_edits_keep_comments_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "accounts.toml"
    path.write_text("# ours\n" + ACCOUNTS)
    path.chmod(0o640)
    edit_file(path, lambda document: append_table(document, "account", {"address": "bob@office.test"}))
    text = path.read_text()
    assert text.startswith("# ours") and text.count("[[account]]") == 2 and path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["accounts.toml"]


def test_with_settings() -> None:
    text = with_settings(MAIN, ["dns.nameservers=['192.0.2.1']", "smtp.max_size=10", "listener.0.port=1"])
    data = tomlkit.parse(text).unwrap()
    assert data["dns"]["nameservers"] == ["192.0.2.1"] and data["smtp"] == {"max_size": 10}
    assert data["listener"][0]["port"] == 1 and "# ours" in text
