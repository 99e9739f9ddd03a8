"""What the README tells people to type, typed: the first command, and the commands of an office of one's own."""

from __future__ import annotations

import os
import re
import shlex
import signal
import smtplib
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import installed
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
MADE = ROOT / ".venv/.made-of"


def blocks() -> list[list[str]]:
    """The commands of each ``sh`` block of the README, comments taken off."""
    text = (ROOT / "README.md").read_text()
    found = re.findall(r"```sh\n(.*?)```", text, flags=re.S)
    return [[line.split("  #")[0].strip() for line in block.splitlines() if line.strip()] for block in found]


@contextmanager
def serving(command: list[str], cwd: Path, environment: Mapping[str, str]) -> Iterator[list[str]]:
    """Runs a server until the end of the block; gives what it said before ``ready``."""
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    assert process.stdout is not None
    said: list[str] = []
    timer = threading.Timer(300, process.kill)
    timer.start()
    try:
        for line in process.stdout:
            said.append(line.rstrip())
            if said[-1] == "ready":
                break
        assert said and said[-1] == "ready", said
        yield said
    finally:
        timer.cancel()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


@pytest.mark.skipif(not MADE.exists(), reason="this environment was not made by scripts/environment")
def test_the_first_command_serves_and_what_it_suggests_works(tmp_path: Path) -> None:
    folder, offset = tmp_path / "office", installed.free_offset()
    with serving([str(ROOT / "scripts/run"), str(folder), str(offset)], ROOT, os.environ) as said:
        text = "\n".join(said)
        listeners = tomllib.loads((folder / "mailguard.toml").read_text())["listener"]
        assert {listener["address"] for listener in listeners} == {"127.0.0.1"}
        assert "user1@office.test" in text and f"127.0.0.1:{offset + 25}" in text
        with smtplib.SMTP("127.0.0.1", offset + 25, timeout=20) as client:
            client.sendmail(
                "you@example.net", ["user1@office.test"], b"From: you@example.net\r\nSubject: hi\r\n\r\nhi\r\n"
            )
        tried = [line.strip().split("  #")[0] for line in said if line.strip().startswith(("curl", ".venv"))]
        assert len(tried) == 4
        for command in tried[:3]:
            done = subprocess.run(shlex.split(command), cwd=ROOT, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, (command, done.stderr)
            assert "you@example.net" in done.stdout, (command, done.stdout)


def test_the_commands_of_an_office_of_ones_own(tmp_path: Path) -> None:
    office = next(block for block in blocks() if block[0].startswith("mailguard init"))
    why = next(block for block in blocks() if block[0].startswith("mailguard trace"))
    offset = installed.free_offset()
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in office[:-1]:
        extra = ["--port-offset", str(offset)] if " init " in command else []
        extra += ["--password-stdin"] if " add " in command else []
        done = subprocess.run(
            [*shlex.split(command), *extra],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            input="correct-horse-1\n",
            env=environment,
        )
        assert done.returncode == 0, (command, done.stderr)
    assert office[-1].startswith("mailguard serve")
    with serving(shlex.split(office[-1]), tmp_path, environment):
        with smtplib.SMTP("127.0.0.1", offset + 25, timeout=20) as client:
            client.ehlo()
            client.mail("hr@bank.example")
            client.rcpt("you@office.example")
            code, reply = client.data(b"From: hr@bank.example\r\nSubject: pay\r\n\r\nhello\r\n")
        assert code == 250
        identifier = reply.decode().split()[-1]
        letter = next((tmp_path / "office/data/mail").rglob("new/*"))
        for command in why:
            line = command.replace(" ID ", f" {identifier} ").replace("letter.eml", str(letter))
            done = subprocess.run(shlex.split(line), cwd=tmp_path, capture_output=True, text=True, env=environment)
            assert done.returncode == 0, (line, done.stderr)
            assert "hr@bank.example" in done.stdout, (line, done.stdout)
