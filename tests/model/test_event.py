"""What a move says of the message that was moved."""

from __future__ import annotations

import pytest

from mailguard.model.event import Moved


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        ("INBOX", "Junk", "spam"),
        ("Quarantine", "Junk", "spam"),
        ("Junk", "Junk", ""),
        ("Junk", "INBOX", "ham"),
        ("Quarantine", "INBOX", "ham"),
        ("Junk", "Trash", ""),
        ("INBOX", "Archive", ""),
    ],
)
def test_moves_into_junk_and_out_of_it(source: str, target: str, says: str) -> None:
    assert Moved(0.0, "id", "ann@office.example", source, target, "/path").says == says
