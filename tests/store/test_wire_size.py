"""The stated size of a message, counted without a copy of the whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.store import content

OCTETS = st.lists(st.sampled_from([b"\r", b"\n", b"a"]), max_size=60).map(b"".join)


@given(st.lists(OCTETS, max_size=4), st.integers(1, 7))
def test_it_is_the_length_with_crlf_line_ends_however_the_message_is_cut(chunks: list[bytes], piece: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(content, "_PIECE", piece)
        raw = b"".join(chunks)
        assert content.wire_size(chunks) == len(raw) + raw.count(b"\n") - raw.count(b"\r\n")
