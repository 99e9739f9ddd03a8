"""The stream of a connection in clear: who waits how long, and what ends the wait."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from mailguard.net.stream import HungUpError, Stream, StreamTimeoutError


@pytest.fixture
def pair() -> Iterator[tuple[Stream, socket.socket]]:
    ours, theirs = socket.socketpair()
    stream = Stream(ours)
    with theirs:
        yield stream, theirs
    stream.close()


def test_silence_ends_by_the_timeout(pair: tuple[Stream, socket.socket]) -> None:
    stream, theirs = pair
    theirs.sendall(b"hello")
    stream.timeout = 0.05
    assert stream.read() == b"hello"
    with pytest.raises(StreamTimeoutError):
        stream.read()


def test_the_deadline_ends_a_wait_that_the_timeout_would_allow(pair: tuple[Stream, socket.socket]) -> None:
    stream, theirs = pair
    theirs.sendall(b"hello")
    assert stream.read() == b"hello"
    stream.set_deadline(0.05)
    with pytest.raises(StreamTimeoutError):
        stream.read()
    stream.set_deadline(0.0)
    with pytest.raises(StreamTimeoutError):
        stream.read()
    stream.set_deadline(None)
    theirs.sendall(b"again")
    assert stream.read() == b"again"


def test_a_peer_that_does_not_read_is_given_up(pair: tuple[Stream, socket.socket]) -> None:
    stream, _ = pair
    stream.timeout = 0.05
    with pytest.raises(StreamTimeoutError):
        stream.write(bytes(10_000_000))


def test_more_than_a_buffer_arrives_whole(pair: tuple[Stream, socket.socket]) -> None:
    stream, theirs = pair
    sent = bytes(range(256)) * 8192
    writer = threading.Thread(target=stream.write, args=(sent,))
    writer.start()
    got = bytearray()
    while len(got) < len(sent):
        got += theirs.recv(65_536)
    writer.join()
    assert bytes(got) == sent


def test_hanging_up_ends_a_wait(pair: tuple[Stream, socket.socket]) -> None:
    stream, _ = pair
    threading.Timer(0.05, stream.hang_up).start()
    with pytest.raises(HungUpError):
        stream.read()
