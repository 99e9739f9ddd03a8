"""Fixtures for every test."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of third-party test data, ``MAILGUARD_SHARED`` or ``../shared``; skips the test without it."""
    folder = Path(os.environ.get("MAILGUARD_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    if not folder.is_dir():
        pytest.skip(f"no third-party test data at {folder} (set MAILGUARD_SHARED)")
    return folder
