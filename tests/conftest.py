"""Fixtures for every test."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# The same examples every time, so that a change is judged by what it changes. New ones are looked for by the long runs
# (MAILGUARD_LONG) and by scripts/fuzz. No deadline: a slow machine is no mistake.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.register_profile("searching", deadline=None, print_blob=True)
hypothesis.settings.load_profile("searching" if os.environ.get("MAILGUARD_LONG") else "repeatable")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of third-party test data, ``MAILGUARD_SHARED`` or ``../shared``; skips the test without it."""
    folder = Path(os.environ.get("MAILGUARD_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip(f"no third-party test data at {folder} (set MAILGUARD_SHARED)")
    return folder
