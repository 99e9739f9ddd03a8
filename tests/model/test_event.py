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
        ("INBOX", "Spam", "spam"),
        ("INBOX/Junk", "Papierkorb", ""),
    ],
)
def test_moves_into_junk_and_out_of_it(source: str, target: str, says: str) -> None:
    assert Moved(0.0, "id", "ann@office.example", source, target, "/path").says == says


@pytest.mark.parametrize(
    ("source", "target", "says"),
    [
        (("INBOX", ""), ("Unwanted", "\\Junk"), "spam"),
        (("Unwanted", "\\Junk"), ("INBOX", ""), "ham"),
        (("Unwanted", "\\Junk"), ("Bin", "\\Trash"), ""),
        (("INBOX", ""), ("Junk", "\\Archive"), ""),
    ],
)
def test_a_special_use_counts_before_a_name(source: tuple[str, str], target: tuple[str, str], says: str) -> None:
    move = Moved(0.0, "id", "ann@office.example", source[0], target[0], "/path", source[1], target[1])
    assert move.says == says


@pytest.mark.parametrize(
    ("source", "target", "filed"),
    [("INBOX", "Projects", True), ("INBOX", "Junk", False), ("INBOX", "Trash", False), ("Projects", "Archive", False)],
)
def test_filed_is_what_leaves_the_inbox_to_be_kept(source: str, target: str, filed: bool) -> None:
    assert Moved(0.0, "id", "ann@office.example", source, target, "/path").filed == filed
