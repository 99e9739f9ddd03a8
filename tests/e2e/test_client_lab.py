"""Mail clients that set themselves up by the DNS alone, each on a machine of its own (``lab.py``)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import evolution
import pytest
import thunderbird

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]


def _missing() -> str:
    """Why there can be no machine of its own, ``""`` if there can."""
    if name := next((name for name in ("unshare", "ip", "mount") if not shutil.which(name)), ""):
        return f"{name} is not installed"
    done = subprocess.run(["unshare", "--net", "--mount", "true"], capture_output=True)
    return "a network namespace needs more rights" if os.geteuid() or done.returncode else ""


def in_lab(client: str, folder: Path) -> None:
    lab = Path(__file__).with_name("lab.py")
    alone = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]  # leaves nothing behind
    line = [*alone, sys.executable, str(lab), client, str(folder)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-6000:] + done.stdout[-2000:]


@pytest.mark.skipif(bool(thunderbird.missing()), reason=f"{thunderbird.missing()} is not installed")
def test_thunderbird_finds_the_office_of_a_hosted_domain_by_its_mx(tmp_path: Path) -> None:
    if why := _missing():
        pytest.skip(why)
    in_lab("thunderbird", tmp_path)


@pytest.mark.skipif(bool(evolution.missing()), reason=f"{evolution.missing()} is not installed")
def test_evolution_finds_the_office_by_its_domain(tmp_path: Path) -> None:
    if why := _missing():
        pytest.skip(why)
    in_lab("evolution", tmp_path)
