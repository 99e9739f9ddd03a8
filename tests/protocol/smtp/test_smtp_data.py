from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.protocol.smtp.data import ContentReader
from mailguard.protocol.smtp.dotstuff import dot_stuffed, only_crlf

LINES = st.lists(st.sampled_from([b"", b".", b"..", b".x", b"hello", b"x" * 50]), max_size=30)


def read(stuffed: bytes, cuts, **limits):
    reader, out, at = ContentReader(**limits), b"", 0
    for cut in [*sorted(cuts), len(stuffed)]:
        rest = reader.feed_data(stuffed[at:cut])
        at = max(at, cut)
        if rest is not None:
            out += reader.take(last=True, stuffed=True)
            return reader, out, rest + stuffed[at:]
        while (piece := reader.take(last=False, stuffed=True)) is not None:
            out += piece
    raise AssertionError("no end of data")


@given(LINES, st.lists(st.integers(0, 400)), st.integers(0, 60))
def test_any_cut_gives_the_message_back(lines, cuts, block):
    body = b"".join(line + b"\r\n" for line in lines)
    stuffed = b"".join(dot_stuffed([body])) + b"QUIT\r\n"
    reader, out, rest = read(stuffed, [c for c in cuts if c < len(stuffed)], block=block)
    assert (out, rest, reader.flaw) == (body, b"QUIT\r\n", None)
    assert reader.size == len(body)


@pytest.mark.parametrize("fake", [b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r\n.\r", b"\r\n\0.\r\n", b"\r\n.\n", b"\r.\r"])
@pytest.mark.parametrize("block", [1 << 20, 1])
def test_only_crlf_dot_crlf_ends_data(fake, block):
    stuffed = b"Subject: x\r\n\r\nbody" + fake + b"MAIL FROM:<evil@example.net>\r\n.\r\n"
    reader, out, rest = read(stuffed, range(1, len(stuffed)), block=block)
    assert rest == b"" and b"MAIL FROM" in out
    assert reader.flaw is not None and reader.flaw.code in (550, 554)


def test_size_limit_reads_on_without_keeping():
    stuffed = b"".join(dot_stuffed([b"x" * 70 + b"\r\n"] * 1000))
    reader, out, _ = read(stuffed, range(0, len(stuffed), 700), size_limit=5000, block=1000)
    assert reader.flaw is not None and reader.flaw.code == 552 and len(out) <= 5000
    assert reader.size == 72000


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(0, 40), st.integers(0, 99))
def test_line_limit_is_exact(lengths, block, seed):
    body = b"".join(b"x" * length + b"\r\n" for length in lengths)
    stuffed = b"".join(dot_stuffed([body]))
    cuts = random.Random(seed).sample(range(len(stuffed)), min(len(stuffed), 9))
    reader, _, _ = read(stuffed, cuts, line_limit=20, block=block)
    assert (reader.flaw is not None) == (max(lengths) + 2 > 20)


def test_chunks_are_taken_as_they_are():
    reader = ContentReader()
    for chunk in (b"a: b\r", b"\n\r\n.", b"x\r\n.\r\n"):
        reader.feed_chunk(chunk)
    assert reader.take(last=True, stuffed=False) == b"a: b\r\n\r\n.x\r\n.\r\n"
    assert reader.flaw is None


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"x", b".", b"\0\xff"]), max_size=12).map(b"".join))
def test_line_ends_are_crlf_or_they_are_not(octets):
    assert only_crlf(octets) == (octets.count(b"\r\n") == octets.count(b"\r") == octets.count(b"\n"))
