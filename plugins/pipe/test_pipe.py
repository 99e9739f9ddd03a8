"""The pipe check, with small programs and with a real bogofilter."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import mailguard_pipe
from mailguard.plugin import Finding
from mailguard.testing import Harness, make_message, need, run_check


def check(script: str, **options: Any) -> Finding | None:
    command = [sys.executable, "-c", script]
    return run_check(mailguard_pipe, options={"command": command, **options})


@pytest.mark.parametrize(
    ("script", "word", "reason", "points"),
    [
        ("", "ok", "", 0),
        ("print('looks odd'); raise SystemExit(1)", "spam", "looks odd", 0),
        ("print('points: 2.5'); print('a reason'); print('points: -1')", "ok", "a reason", 1.5),
        ("raise SystemExit(75)", "later", "", 0),
    ],
)
def test_exit_codes_are_words(script: str, word: str, reason: str, points: float) -> None:
    finding = check(script)
    assert finding is not None
    assert (finding.word, finding.reason, finding.points) == (word, reason, points)


def test_it_is_given_message_and_envelope() -> None:
    script = (
        "import os, sys; text = sys.stdin.buffer.read().decode();"
        "print(len(text), os.environ['MAILGUARD_SENDER'], os.environ['MAILGUARD_RECIPIENTS'],"
        "os.environ['MAILGUARD_CLIENT'], os.environ['MAILGUARD_HELO'], 'SECRET' in os.environ)"
    )
    finding = check(script)
    assert finding is not None
    size = len(bytes(make_message()))
    assert finding.reason == f"{size} alice@example.net bob@example.org 192.0.2.1 mail.example.net False"


def test_codes_can_be_given_words() -> None:
    finding = check("raise SystemExit(3)", exit={"3": "hold"})
    assert finding is not None
    assert finding.word == "hold"


def test_an_unknown_code_or_a_signal_is_an_error() -> None:
    with pytest.raises(OSError, match="ended with 9: it broke"):
        check("print('it broke'); raise SystemExit(9)")
    with pytest.raises(OSError, match="ended with -11"):
        check("import os; os.kill(os.getpid(), 11)")
    with pytest.raises(FileNotFoundError):
        run_check(mailguard_pipe, options={"command": ["/nonexistent"]})


def test_it_and_its_children_are_killed_at_the_deadline(tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    script = f"import subprocess; subprocess.run(['sh', '-c', 'sleep 2; touch {alive}'])"
    with Harness(mailguard_pipe, options={"command": [sys.executable, "-c", script]}) as harness:
        object.__setattr__(harness.ctx, "deadline", 0.3)
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match="did not end in time"):
            harness.check()
        assert time.monotonic() - begun < 1.9
    assert not alive.exists()


def test_a_program_that_does_not_read_is_no_trouble() -> None:
    finding = run_check(mailguard_pipe, message=make_message("x\n" * 500_000), options={"command": ["true"]})
    assert finding is not None
    assert finding.word == "ok"


@pytest.mark.e2e
def test_real_bogofilter(tmp_path: Path) -> None:
    program = need("bogofilter")
    spam, ham = make_message("cheap pills and watches\n" * 9), make_message("minutes of our meeting\n" * 9)
    for flag, message in (("-s", spam), ("-n", ham)):
        for _ in range(12):
            subprocess.run([program, "-d", str(tmp_path), flag], input=bytes(message), check=True)
    command = [program, "-d", str(tmp_path), "-v"]
    options = {"command": command, "exit": {"0": "spam", "1": "ok", "2": "suspect"}}
    for message, word in ((spam, "spam"), (ham, "ok")):
        finding = run_check(mailguard_pipe, message=message, options=options)
        assert finding is not None
        assert finding.word == word
        assert finding.reason.startswith("X-Bogosity: ")
