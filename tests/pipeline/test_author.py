"""Who wrote a message: the quick reading of a plain From field says what the thorough one says."""

from __future__ import annotations

from contextlib import suppress
from email.utils import getaddresses

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from mailguard.model.address import Address, AddressError
from mailguard.model.message import Message
from mailguard.pipeline.facts import author, author_domains

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
        '"Example, Ann" ',
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
@example('"Example, Ann (sales)" <ann@b.test>')
@example('"  Ann  " <ann@b.test>')
@example('"" <ann@b.test>')
@example('"Ann\tE" <ann@b.test>')
@example("ann@b.test")
@example("<ann@b.test>")
@example("a..b@c.test")
@example("a@-b-")
def test_both_readings_agree(value: str) -> None:
    assert author(value) == thorough(value)


@pytest.mark.parametrize("value", ["Ann Example <ann@b.test>", '"E, Ann" <ann@b.test>', "<ann@b.test>"])
def test_plain_fields_have_an_author(value: str) -> None:
    assert author(value)[1] == Address("ann", "b.test")


@given(st.lists(st.lists(PIECES, max_size=6).map("".join), max_size=3))
@example(["Ann Example <ann@b.test>"])
@example(['"Example, Ann" <ann@b.test>'])
@example(["ann@b.test", "bob@c.test"])
@example(['"', "ann@b.test"])
def test_the_domains_of_authors_are_those_of_the_thorough_reading(values: list[str]) -> None:
    message = Message("".join(f"From: {value}\r\n" for value in values).encode() + b"\r\n")
    domains = set()
    for _, spec in getaddresses([field.value for field in message.get_all("From")]):
        with suppress(AddressError):
            domains.add(Address.parse(spec.encode("utf-8", "surrogateescape").decode("utf-8", "replace")).domain)
    assert author_domains(message) == domains
