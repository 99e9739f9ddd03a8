"""``conf/`` is true: every setting is documented, every example loads, every command of the manual runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mailguard.auth.accountcheck import mistakes
from mailguard.auth.accountsfile import AccountsFile
from mailguard.cli.main import COMMANDS
from mailguard.config.decode import decode
from mailguard.config.reference import document, settings
from mailguard.config.schema import MainFile
from mailguard.pipeline.source import Source

CONF = Path(__file__).resolve().parents[2] / "conf"
MANUAL = (CONF / "README.md").read_text("utf-8")
_NO_DNS = r"dns.nameservers=[\'127.0.0.1:1\']"
_COMMENTED = re.compile(r"(?m)^# (?=\[+[a-z._\"]+\]+|[a-z_.]+ = )")


def snippets(info: str) -> list[str]:
    return re.findall(rf"(?ms)^```{info}\n(.*?)^```", MANUAL)


def test_every_setting_is_listed() -> None:
    assert document() == (CONF / "settings.md").read_text("utf-8"), (
        "a setting was added or changed: run scripts/settings, and commit conf/settings.md with it"
    )


def test_every_setting_says_what_it_is() -> None:
    silent = [
        f"{s.table} {s.name}" for model in (MainFile, AccountsFile) for s in settings(model) if len(s.meaning) < 5
    ]
    assert silent == []


def test_every_table_stands_in_the_sample() -> None:
    sample = (CONF / "mailguard.toml").read_text("utf-8")
    first = {s.table.strip("[]").partition(".")[0] for s in settings(MainFile)} - {""}
    assert {name for name in first if not re.search(rf"(?m)^\[+{name}\]+", sample)} == set()


@pytest.mark.parametrize(("name", "model"), [("mailguard.toml", MainFile), ("accounts.toml", AccountsFile)])
def test_the_samples_load_with_and_without_their_comments(name: str, model: type[MainFile]) -> None:
    text = (CONF / name).read_text("utf-8")
    decode(Source(name, text), model)
    decode(Source(name, _COMMENTED.sub("", text)), model)


def test_what_is_commented_out_is_the_default() -> None:
    """... or an example, where there is no default to show."""
    text = _COMMENTED.sub("", (CONF / "mailguard.toml").read_text("utf-8"))
    examples = {
        "user",
        "name",
        "email",
        "names",
        "proxies",
        "addresses",
        "nameservers",
        "file",
        "host",
        "port",
        "password",
    }
    loaded = decode(Source("mailguard.toml", text), MainFile)
    for table, values in tomllib.loads(text).items():
        for name, value in values.items() if isinstance(values, dict) else ():
            section = getattr(loaded, table)
            if name not in examples and not isinstance(value, dict | list):
                assert getattr(section, name) == getattr(type(section)(), name), f"[{table}] {name}"


def test_every_command_of_the_manual_exists() -> None:
    named = set(re.findall(r"(?m)(?:^|`)mailguard ([a-z]+)", MANUAL))
    assert named - set(COMMANDS) == set()
    assert set(COMMANDS) - named <= {"plugins", "index", "try", "init"}, "a command that the manual does not mention"


@pytest.mark.parametrize("text", snippets("toml mailguard.toml"))
def test_settings_of_the_manual(text: str) -> None:
    decode(Source("README.md", 'hostname = "mail.office.test"\n' + text), MainFile)


@pytest.mark.parametrize("text", snippets("toml accounts.toml"))
def test_accounts_of_the_manual(text: str) -> None:
    assert list(mistakes(decode(Source("README.md", text), AccountsFile))) == []


def test_messages_of_the_manual_are_the_programs_own() -> None:
    source = "\n".join(path.read_text() for path in Path(CONF.parent / "mailguard").rglob("*.py"))
    table = MANUAL[MANUAL.index("| what you see") :]
    quoted = [text for row in table.splitlines()[2:] for text in re.findall(r"`([^`]+)`", row.split("|")[1])]
    missing = [
        t
        for t in quoted
        if t not in source and t not in ("Address already in use", "policy.toml:12:", "mailguard init")
    ]
    missing = [
        text
        for text in missing
        if not text.startswith("No such file") and text.strip() not in ("makes a self-signed one",)
    ]
    assert missing == ["autoconfig", "autodiscover"] or missing == []


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_commands_of_the_manual_run(tmp_path: Path) -> None:
    """In their order, on a scratch root; what would change this machine is replaced by nothing."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("ufw", "systemctl", "journalctl", "ln", "pip"):
        (programs / name).write_text("#!/bin/sh\nexit 0\n")
    (programs / "mailguard").write_text(f'#!/bin/sh\nexec {sys.executable} -m mailguard "$@"\n')
    (programs / "systemctl").write_text(f"#!/bin/sh\nmkdir -p {tmp_path}/root/var/lib/mailguard/queue\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    root = tmp_path / "root"
    (root / "etc/systemd/system").mkdir(parents=True)
    (root / "var/lib").mkdir(parents=True)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    environment["MAILGUARD_CONFIG"] = f"{root}/etc/mailguard/mailguard.toml"
    script = "".join(snippets("sh"))
    script = re.sub(r"(?m)^(python3 -m venv|/opt/mailguard/bin/pip).*\n", "", script)
    where = f"{root}/etc/mailguard --data {root}/var/lib/mailguard"
    script = script.replace("mailguard setup", f"mailguard setup {where} --port-offset 21000 --set {_NO_DNS}")
    script = script.replace("-C /", f"-C {root}")
    script = re.sub(r"(?<![\w.])/(etc|var)/", rf"{root}/\1/", script)
    # Nothing is published and no server runs, so these two may find fault; but they must run.
    script = re.sub(r"(?m)^(mailguard (?:doctor|dns check).*)$", r"{ \1 || test $? = 1; }", script)
    script = re.sub(r"(?m)^(mailguard dkim rotate.*)$", r"\1 > /dev/null", script)
    done = subprocess.run(["bash", "-eux"], input=script, text=True, capture_output=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stderr
    assert (root / "var/backups/mailguard/state.db").stat().st_size > 0
    assert (root / "var/backups/mailguard/ann.tar.gz").exists()
