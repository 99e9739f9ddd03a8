"""Who wrote a message: the quick reading of a plain From field says what the thorough one says."""

from __future__ import annotations

from email.utils import getaddresses

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from mailguard.model.address import Address, AddressError
from mailguard.pipeline.facts import author

PIECES = st.sampled_from(
    [
        "ann",
        "Ann Example",
        "a@b.test",
        "<a@b.test>",
        "<",
        ">",
        "@",
        ".",
        " ",
        "  ",
        '"',
        ",",
        ";",
        ":",
        "(c)",
        "\\",
        "é",
        "=",
    ]
)


def thorough(value: str) -> tuple[str, Address | None]:
    for name, spec in getaddresses([value]):
        try:
            return name, Address.parse(spec)
        except AddressError:
            return name, None
    return "", None


@given(st.lists(PIECES, max_size=7).map("".join))
@example("Ann Example <ann@b.test>")
@example("ann@b.test")
@example("<ann@b.test>")
@example("a..b@c.test")
@example("a@-b-")
def test_both_readings_agree(value: str) -> None:
    assert author(value) == thorough(value)


@pytest.mark.parametrize("value", ["Ann Example <ann@b.test>", "<ann@b.test>", "ann@b.test"])
def test_plain_fields_have_an_author(value: str) -> None:
    assert author(value)[1] == Address("ann", "b.test")
