"""``mailguard setup``: asked or told, what it writes works, and what it leaves to do is all that is left."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from mailguard.cli.main import run
from mailguard.cli.setup import setup
from mailguard.cli.setup_write import unit_text
from mailguard.config.schema import load_config

CONF = Path(__file__).resolve().parents[2] / "conf"
TOLD = ("--domain", "office.test", "-y", "--address", "192.0.2.10", "--account", "ann@office.test")


def office(folder: Path, *words: str, stdin: str = "") -> str:
    result = CliRunner().invoke(setup, [str(folder), *words], input=stdin)
    assert result.exit_code == 0, result.output
    return result.output


def test_told_everything_by_options(tmp_path: Path) -> None:
    folder = tmp_path / "office"
    text = office(folder, *TOLD, "--account", "bob@office.test", "--certificate", "acme", "--staging",
                  "--email", "boss@office.test", "--port-offset", "20000", "--set", "workers=3")  # fmt: skip
    config = load_config(folder / "mailguard.toml")
    assert config.main.acme.enabled and config.main.acme.staging and config.main.workers == 3
    assert config.main.dns_check.addresses == ("192.0.2.10",) and config.data_dir == folder / "data"
    assert [str(a) for a in config.directory.accounts.values()] == ["ann@office.test", "bob@office.test"]
    assert text.count("password: ") == 2
    assert "ufw allow 20025,20080,20110," in text and "systemctl enable --now mailguard" in text
    assert "Get a real certificate" not in text and "mailguard user add" not in text
    records = (folder / "dns-records.txt").read_text()
    assert "A      192.0.2.10" in records and records.count("v=DKIM1") == 2
    assert run(["check", "-c", str(folder / "mailguard.toml")]) == 0
    assert "ProtectSystem=strict" in (folder / "mailguard.service").read_text()


def test_asked_step_by_step(tmp_path: Path) -> None:
    answers = "office.test\nmx.office.test\n\n192.0.2.10, 2001:db8::10\nann\nbob@office.test\n\nself-signed\n"
    text = office(tmp_path / "office", stdin=answers)
    config = load_config(tmp_path / "office/mailguard.toml")
    assert config.main.hostname == "mx.office.test" and config.main.dns_check.addresses == (
        "192.0.2.10",
        "2001:db8::10",
    )
    assert list(config.directory.accounts) == ["ann@office.test", "bob@office.test"]
    assert "name it mx.office.test" in text and "Get a real certificate" in text


def test_passwords_from_standard_input_and_own_certificate(tmp_path: Path) -> None:
    office(tmp_path / "one", *TOLD)
    tls = tmp_path / "one/tls"
    files = ("--certificate-file", str(tls / "certificate.pem"), "--key-file", str(tls / "key.pem"))
    text = office(tmp_path / "two", *TOLD, "--password-stdin", *files, stdin="correct-horse-1\n")
    assert "password: " not in text and "Get a real certificate" not in text
    assert load_config(tmp_path / "two/mailguard.toml").main.tls.key == tls / "key.pem"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("-y",), "--domain is needed"),
        (("-y", "--domain", "not a domain"), "not a domain"),
        ((*TOLD, "--address", "192.0.2"), "192.0.2 is not an IP address"),
        ((*TOLD, "--account", "x@else.test"), "is not in office.test"),
        ((*TOLD, "--certificate", "files"), "needs --certificate-file"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(tmp_path: Path, words: tuple[str, ...], text: str) -> None:
    result = CliRunner().invoke(setup, [str(tmp_path / "office"), *words])
    assert result.exit_code == 2 and text in result.output
    assert not (tmp_path / "office").exists()


def test_a_second_time_is_refused(tmp_path: Path) -> None:
    office(tmp_path / "office", *TOLD)
    result = CliRunner().invoke(setup, [str(tmp_path / "office"), *TOLD])
    assert result.exit_code == 1 and "exists already" in result.output


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
def test_the_user_of_the_service_owns_its_files(tmp_path: Path) -> None:
    text = office(tmp_path / "office", *TOLD, "--user", "nobody")
    assert (tmp_path / "office/data/state.db").owner() == (tmp_path / "office/tls/key.pem").owner() == "nobody"
    assert "chown" not in text
    assert "useradd" in office(tmp_path / "other", *TOLD, "--user", "no-such-user")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_the_unit_is_good_and_tight(tmp_path: Path) -> None:
    office(tmp_path / "my office", *TOLD)
    unit = tmp_path / "my office/mailguard.service"
    shutil.copy(unit, tmp_path / "mailguard.service")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / "mailguard.service")], capture_output=True, text=True
    )
    ours = [line for line in done.stderr.splitlines() if "mailguard" in line]
    assert (done.returncode, ours) == (0, [])
    security = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(tmp_path / "mailguard.service")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert security.returncode == 0, security.stdout[-2000:]


def test_every_path_of_the_sample_unit_is_filled_in(tmp_path: Path) -> None:
    text = unit_text(tmp_path / "m.toml", tmp_path / "data", "post")
    assert "/etc/mailguard" not in text and "/var/lib" not in text and "User=post\nGroup=post\n" in text
    sample = (CONF / "mailguard.service").read_text()
    assert "Type=notify" in sample and "AmbientCapabilities=CAP_NET_BIND_SERVICE" in sample
