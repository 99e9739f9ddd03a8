"""A selected mailbox as one client knows it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.sequence import SequenceSet
from mailguard.protocol.imap.view import View

ends = st.one_of(st.integers(0, 12), st.integers(0, 90))
uids = st.sets(st.integers(1, 80), max_size=70).map(sorted)


@given(uids, uids, st.lists(st.tuples(ends, ends), min_size=1, max_size=4), st.booleans())
def test_what_lies_within_a_set_is_what_the_set_means(
    there: list[int], some: list[int], ranges: list[tuple[int, int]], by_uid: bool
) -> None:
    view, numbers = View(there, 1), SequenceSet(tuple(ranges))
    try:
        meant = view.resolve(numbers, by_uid)
    except CommandError:
        with pytest.raises(CommandError):
            view.within(numbers, by_uid, some)
        return
    assert view.within(numbers, by_uid, some) == [uid for uid in some if uid in meant]


def test_what_lies_within_the_saved_result() -> None:
    view = View([3, 5, 9], 1)
    view.saved = [9, 3, 4]
    assert view.within(None, True, [3, 4, 5]) == [3]
    assert view.within(None, False, [4, 9]) == [9]
