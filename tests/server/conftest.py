"""What tests of IMAP share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Any]:
    """A mail server with a few accounts (see ``imapoffice``)."""
    import imapoffice

    with contextlib.ExitStack() as stack:
        yield imapoffice.Office(tmp_path, stack)
