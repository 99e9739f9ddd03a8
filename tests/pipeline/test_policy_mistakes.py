"""Each bad policy in tests/badconfig/policy has its messages, word for word, in a .txt beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mailguard.pipeline.compiler import load_policy
from mailguard.pipeline.source import PolicyError

BAD = Path(__file__).parents[1] / "badconfig" / "policy"


@pytest.mark.parametrize("path", sorted(BAD.glob("*.toml")), ids=lambda path: path.stem)
def test_every_mistake_is_told_with_its_place(kit, path):
    with pytest.raises(PolicyError) as caught:
        load_policy(path, kit.load, lambda: {"spf": "", "dmarc": "", "greylist": ""})
    told = f"{caught.value}\n".replace(f"{BAD}/", "")
    expected = path.with_suffix(".txt")
    if os.environ.get("MAILGUARD_GOLDEN") == "write":
        expected.write_text(told, "utf-8")
    assert told == expected.read_text("utf-8")


def test_a_file_that_cannot_be_read(kit, tmp_path):
    with pytest.raises(PolicyError, match=r"policy.toml:1:1: cannot be read: No such file"):
        load_policy(tmp_path / "policy.toml", kit.load)
