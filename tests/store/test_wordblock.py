"""Text by its words: what goes in comes out, and what is found is what is there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.store import wordblock
from mailguard.store.wordblock import Needle, WordBlock

# Few characters, so that words come again, touch the ends and stand beside each other in every way.
LETTERS = "ab é漢\0\1\2"
HEADERS = st.text(LETTERS + "\n", max_size=30).map(lambda text: f"\n{text}\n".encode())
BODIES = st.text(LETTERS, max_size=30).map(str.encode)
TEXTS = st.lists(st.tuples(HEADERS, BODIES), min_size=1, max_size=5)
PLACES = st.sampled_from([(True, True), (True, False), (False, True)])


@given(TEXTS)
def test_texts_come_back(texts: list[tuple[bytes, bytes]]) -> None:
    block = WordBlock.of(texts)
    assert len(block) == len(texts)
    assert [block.text(number) for number in range(len(texts))] == texts


@given(TEXTS, st.text(LETTERS, min_size=1, max_size=5), PLACES, st.sampled_from([1, 3, 24]))
def test_whatever_is_there_is_found_and_nothing_else(
    texts: list[tuple[bytes, bytes]], needle: str, places: tuple[bool, bool], tried: int
) -> None:
    sought, (header, body) = needle.encode(), places
    wanted = {
        number
        for number, text in enumerate(texts)
        if (header and sought in text[0]) or (body and sought in text[1])
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wordblock, "_TRIED", tried)
        assert WordBlock.of(texts).find(Needle(sought, header=header, body=body)) == wanted


def test_more_words_than_utf_16_has_characters_for() -> None:
    words = [b"w%d" % number for number in range(60_000)]
    texts = [(b"\n", b" ".join(words)), (b"\nsubject: other\n", b"w1 w59999 w55290 w55291")]
    block = WordBlock.of(texts)
    assert [block.text(number) for number in (0, 1)] == texts
    for needle, found in (("59998 w59999", {0}), ("w1 w59999 w552", {1}), ("w55290 w55291", {0, 1}), ("w60000", set())):
        assert block.find(Needle(needle.encode(), header=True, body=True)) == found


def test_what_is_torn_is_no_text() -> None:
    block = WordBlock.of([(b"\na: b\n", b"some words")])
    with pytest.raises(LookupError):
        WordBlock(b"\nonly\n", block.codes).text(0)
    with pytest.raises(ValueError, match=r"codec|unpack"):
        WordBlock(block.words, block.codes.replace(b"\0", b"\xff")).text(0)
