"""``mailguard doctor``: each thing that tends to go wrong is a line of its own, with its cure."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from mailguard.cli import doctor_machine
from mailguard.cli.doctor import examine
from mailguard.cli.doctor_line import Line
from mailguard.cli.main import run
from mailguard.config.schema import load_config
from mailguard.state.database import Database
from mailguard.state.queue import queue_message, queue_recipient
from mailguard.state.settings import StateSettings


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "office"
    sets = ["listener=[{kind='pop3', port=1}]"]
    assert run(["init", str(folder), "--domain", "office.test", *(w for text in sets for w in ("--set", text))]) == 0
    path = folder / "mailguard.toml"
    assert run(["user", "add", "a@office.test", "--generate", "-c", str(path)]) == 0
    return path


def told(config: Path) -> list[Line]:
    return list(examine(config, offline=True))


def marks(lines: list[Line], area: str) -> set[str]:
    return {line.mark for line in lines if line.area == area}


def test_a_healthy_office_that_is_not_running(config: Path) -> None:
    lines = told(config)
    assert [line.text for line in lines if line.mark == "fail"] == ["it is not running"]
    assert all(line.cure for line in lines if line.mark != "ok")
    areas = {line.area for line in lines}
    assert {"configuration", "folders", "secrets", "disk", "clock", "limits", "tls", "state", "accounts", "queue",
            "plugins", "ports"} <= areas  # fmt: skip


def test_json_and_exit_codes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["doctor", "--offline", "--json", "-c", str(config)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found[0] == {"area": "configuration", "mark": "ok", "text": found[0]["text"], "cure": ""}
    config.with_name("policy.toml").write_text("[skore]\n")
    assert run(["doctor", "--offline", "-c", str(config)]) == 2
    assert "policy.toml:1:1: skore: " in capsys.readouterr().out
    assert run(["doctor", "-c", str(config.with_name("nowhere.toml"))]) == 2


def test_rights(config: Path) -> None:
    data = config.parent / "data"
    data.chmod(0o755)
    (config.parent / "tls/key.pem").chmod(0o644)
    lines = told(config)
    assert marks(lines, "folders") == {"warn"}
    assert any("may read" in line.text and line.mark == "fail" for line in lines if line.area == "secrets")
    if os.geteuid() == 0:
        os.chown(data / "state.db", 65534, 65534)
        assert any(line.cure.startswith("chown -R") for line in told(config) if line.area == "folders")


def test_people_without_a_password_and_without_an_account(config: Path) -> None:
    accounts = config.with_name("accounts.toml")
    accounts.write_text(accounts.read_text() + '\n[[account]]\naddress = "b@office.test"\n')
    assert any("b@office.test has no password" in line.text for line in told(config))
    accounts.write_text('[[domain]]\nname = "office.test"\n')
    lines = told(config)
    assert any("nobody reads postmaster@office.test" in line.text for line in lines)
    assert marks(lines, "accounts") == {"fail"}


def test_mail_that_waits(config: Path) -> None:
    database = Database(StateSettings(), config.parent / "data")
    message = {column.name: "" for column in queue_message.columns if isinstance(column.type, sa.Text)}
    message |= {"id": "q1", "created": time.time() - 100_000, "size": 1, "body_8bit": False, "smtputf8": False}
    message |= {"require_tls": False, "tls_optional": False}
    recipient = {c.name: "" for c in queue_recipient.columns if isinstance(c.type, sa.Text)}
    recipient |= {"message_id": "q1", "due_at": 0.0}
    with database.write() as connection:
        connection.execute(queue_message.insert(), [message])
        connection.execute(queue_recipient.insert(), [recipient | {"state": 0}])
        connection.execute(queue_recipient.insert(), [recipient | {"state": 1}])
    database.close()
    lines = [line for line in told(config) if line.area == "queue"]
    assert [line.mark for line in lines] == ["warn", "warn"]
    assert "1 recipients are on hold" in lines[0].text and "27.8 h" in lines[1].text


def test_a_disk_that_fills_up(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_config(config)

    def left(free: int) -> Any:
        monkeypatch.setattr(doctor_machine.shutil, "disk_usage", lambda path: _Usage(10**11, free))
        return next(doctor_machine.disk(loaded)).mark

    assert [left(5 * 10**10), left(5 * 10**9), left(10**8)] == ["ok", "warn", "fail"]


class _Usage:
    def __init__(self, total: int, free: int) -> None:
        self.total, self.free = total, free


def test_certificates(config: Path) -> None:
    (config.parent / "tls/certificate.pem").unlink()
    lines = told(config)
    assert any("certificate.pem" in line.text and line.mark == "fail" for line in lines if line.area == "tls")
    config.write_text(config.read_text().replace("# enabled = false", "enabled = true"))
    folder = config.parent / "data/acme"
    folder.mkdir()
    hold = {"until": 9e9, "reason": "connection refused", "times": 1}
    memory = {"failures": 1, "next_attempt": 9e9, "error": "out of reach", "error_since": 1.0, "told": 0.0}
    (folder / "memory.json").write_text(json.dumps(memory | {"holds": {"imap.office.test": hold}}))
    assert run(["init", str(config.parent / "again"), "--domain", "office.test"]) == 0
    (config.parent / "again/tls").rename(config.parent / "tls2")
    config.write_text(config.read_text().replace('"tls/', '"tls2/'))
    text = [line.text for line in told(config) if line.area == "tls"]
    assert any("out of reach" in t for t in text) and any("imap.office.test is left out" in t for t in text)
    assert any("nothing listens for http" in t for t in text)


def test_mail_that_is_not_signed(config: Path) -> None:
    assert [line.mark for line in told(config) if line.area == "dkim"] == ["warn"]
    assert run(["dkim", "add", "office.test", "-c", str(config)]) == 0
    assert [line.mark for line in told(config) if line.area == "dkim"] == ["ok"]
    next((config.parent / "data/dkim/office.test").glob("*.pem")).write_text("rubbish")
    assert [line.mark for line in told(config) if line.area == "dkim"] == ["fail"]
