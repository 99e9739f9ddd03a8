"""The shortcuts on the way to a score say what the long way would."""

from __future__ import annotations

import pytest

pytest.importorskip("hypothesis")

from hypothesis import given
from hypothesis import strategies as st

from mailguard_spamscore.explain import _strongest
from mailguard_spamscore.token import words_of

weights = st.lists(st.sampled_from((-2.0, -1.0, -0.5, -0.1, 0.0, 0.1, 0.5, 1.0, 2.0)), max_size=60)


@given(weights, st.integers(1, 12), st.sampled_from((0.05, 0.3, 1.0)))
def test_the_strongest_are_found_as_if_all_were_sorted(sums, most, least):
    order = sorted(range(len(sums)), key=sums.__getitem__)
    both_ends = {*order[:most], *order[-most:]}
    wanted = sorted(both_ends, key=lambda i: (-abs(sums[i]), i))[:most]
    found = _strongest(sums, most, least)
    assert [i for i in found if abs(sums[i]) >= least] == [i for i in wanted if abs(sums[i]) >= least]


@given(
    st.lists(st.sampled_from(("word", "it's", "5%", "$$", "!", " ", "\n", "ü", "会议", "-", "."))), st.integers(0, 9)
)
def test_the_first_words_are_the_first_of_all(pieces, most):
    text = "".join(pieces).encode()
    assert words_of(text, most) == words_of(text)[:most]
