"""Whole commands out of octets however they are cut; sets of messages."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.protocol.imap.framing import Command, Event, Framing, Refused, WantsContinuation
from mailguard.protocol.imap.sequence import SequenceError, SequenceSet, render_set
from mailguard.protocol.wire import NEED_DATA

STREAM = (
    b"a1 NOOP\r\n"
    b"a2 LOGIN {4+}\r\nuser {6}\r\nsecret\r\n"
    b"a3 APPEND x (\\Seen) ~{3+}\r\n\x00\r\n\r\n"
    b"a4 LOGIN {9000+}\r\n" + b"x" * 9000 + b" rest\r\n"
    b"a5 NOOP\r\n"
)  # fmt: skip
EVENTS = [
    Command((b"a1 NOOP",)),
    WantsContinuation(6),
    Command((b"a2 LOGIN ", b" ", b""), (b"user", b"secret"), (False, False)),
    Command((b"a3 APPEND x (\\Seen) ", b""), (b"\x00\r\n",), (True,)),
    Refused(b"a4", "a literal of 9000 octets is over the limit of 8192", too_big=True),
    Command((b"a5 NOOP",)),
]


def events(*blocks: bytes) -> list[Event]:
    framing = Framing()
    found: list[Event] = []
    for block in blocks:
        framing.receive_data(block)
        while (event := framing.next_event()) is not NEED_DATA:
            found.append(event)
    return found


def test_a_stream_of_commands() -> None:
    assert events(STREAM) == EVENTS


def test_byte_by_byte() -> None:
    assert events(*(bytes([octet]) for octet in STREAM)) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12).map(sorted))
def test_random_cuts(cuts: list[int]) -> None:
    edges = [0, *cuts, len(STREAM)]
    assert events(*(STREAM[a:b] for a, b in itertools.pairwise(edges))) == EVENTS


def test_limits_are_named_and_memory_is_bounded() -> None:
    assert events(b"b APPEND x {99999999999}\r\n", b"b2 NOOP\r\n") == [
        Refused(b"b", "a literal of 99999999999 octets is over the limit of 8192", too_big=True),
        Command((b"b2 NOOP",)),
    ]
    (refused,) = events(b"c APPEND x {99999999999+}\r\n")
    assert isinstance(refused, Refused) and refused.fatal
    framing = Framing(max_line=100)
    seen: list[Event] = []
    for _ in range(1000):
        framing.receive_data(b"x" * 100)
        while (event := framing.next_event()) is not NEED_DATA:
            seen.append(event)
    assert seen == [Refused(b"*", "line longer than 100 octets")]
    assert len(framing.buffer) <= 200


@given(st.binary(max_size=300))
def test_any_octets_are_survived(data: bytes) -> None:
    events(data)


@pytest.mark.parametrize(
    ("text", "count", "numbers"),
    [("1", 3, [1]), ("5:3", 9, [3, 4, 5]), ("*", 4, [4]), ("2:*", 4, [2, 3, 4]), ("*:3", 4, [3, 4]),
     ("1,3,2:3", 4, [1, 2, 3]), ("*", 0, [])],
)  # fmt: skip
def test_message_numbers(text: str, count: int, numbers: list[int]) -> None:
    assert SequenceSet.parse(text).numbers(count) == numbers


def test_numbers_that_do_not_exist() -> None:
    with pytest.raises(SequenceError, match="no message 5"):
        SequenceSet.parse("1:5").numbers(4)
    with pytest.raises(SequenceError, match="empty"):
        SequenceSet.parse("1").numbers(0)


@pytest.mark.parametrize(
    ("text", "uids"),
    [("1:*", [3, 7, 9]), ("4:8", [7]), ("100", []), ("100:*", [9]), ("*", [9]), ("7,3", [3, 7])],
)
def test_uids(text: str, uids: list[int]) -> None:
    assert SequenceSet.parse(text).uids([3, 7, 9]) == uids
    assert SequenceSet.parse(text).uids([]) == []


@pytest.mark.parametrize("text", ["", "0", "a", "1:", ":1", "1,,2", "99999999999", "1:2:3"])
def test_what_is_no_set_is_refused(text: str) -> None:
    with pytest.raises(SequenceError):
        SequenceSet.parse(text)


@given(st.sets(st.integers(1, 200)))
def test_rendered_sets_read_back(numbers: set[int]) -> None:
    text = render_set(sorted(numbers))
    assert not any(part.split(":")[0] == part.split(":")[-1] and ":" in part for part in text.split(","))
    if numbers:
        assert SequenceSet.parse(text).numbers(200) == sorted(numbers)
