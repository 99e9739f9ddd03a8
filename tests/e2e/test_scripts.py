"""The scripts that people run: the show, and the fuzzer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
SCRIPTS = Path(__file__).parents[2] / "scripts"


def run(*command: str) -> str:
    line = [sys.executable, str(SCRIPTS / command[0]), *command[1:]]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, env=os.environ | {"COLUMNS": "240"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_demo_shows_what_became_of_each_message() -> None:
    shown = run("demo.py")
    rows = [part for part in shown.split("├") if "@" in part]
    assert len(rows) == 4, shown
    good, forged, _spam, worm = rows
    assert "accept" in good and "dmarc pass" in good and "office.test/user1/new" in good
    assert "reject" in forged and "nowhere: its sender was told" in forged
    assert "reject" in worm and "dangerous" in worm
    assert "attachments found" in shown  # the story below the table


def test_the_fuzzer_finds_nothing_in_a_moment() -> None:
    said = run("fuzz.py", "--seconds", "0.3", "--seed", "20260302")
    assert said.count("nothing found") == 7
