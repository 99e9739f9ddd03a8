from __future__ import annotations

import socket
import threading
import time

import pytest

from mailguard.net.talk import Talk, parse_place


@pytest.mark.parametrize(
    ("place", "where"),
    [
        ("127.0.0.1:783", ("127.0.0.1", 783)),
        ("localhost:11333", ("localhost", 11333)),
        ("[::1]:25", ("::1", 25)),
        ("inet:8891@127.0.0.1", ("127.0.0.1", 8891)),
        ("inet6:8891@::1", ("::1", 8891)),
        ("inet:127.0.0.1:8891", ("127.0.0.1", 8891)),
        ("/run/clamd.ctl", "/run/clamd.ctl"),
        ("unix:/run/x", "/run/x"),
        ("local:/run/x", "/run/x"),
    ],
)
def test_places(place, where):
    assert parse_place(place) == where


@pytest.mark.parametrize("place", ["", "host", "host:", "host:0", "host:70000", ":80", "a b:1", "http://x:1"])
def test_no_places(place):
    with pytest.raises(ValueError, match="neither host:port nor"):
        parse_place(place)


@pytest.fixture
def listener(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        server.listen()
        yield server


def test_a_conversation(listener):
    def serve():
        with listener.accept()[0] as client:
            client.sendall(client.recv(5, socket.MSG_WAITALL) + b"\nrest")

    thread = threading.Thread(target=serve)
    thread.start()
    with Talk(listener.getsockname(), 5) as talk:
        talk.send(b"he", memoryview(b"llo"))
        assert talk.read(2) == b"he"
        assert talk.read_until(b"\n") == b"llo"
        assert talk.read_all() == b"rest"
        with pytest.raises(EOFError):
            talk.read(1)
    thread.join()


def test_the_deadline_is_for_all_together(listener):
    begun = time.monotonic()
    with Talk(listener.getsockname(), 0.1) as talk, pytest.raises(TimeoutError):
        talk.read(1)
    assert time.monotonic() - begun < 5


def test_nobody_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        Talk(str(tmp_path / "nothing"), 1)
