"""Connecting to one of several addresses."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from mailguard.net.dial import DialError, dial, interleave


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        sock.settimeout(20)
        yield sock


def test_both_families_take_turns() -> None:
    found = interleave(["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"])
    assert found == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2", "192.0.2.3"]
    assert interleave(["192.0.2.1"]) == ["192.0.2.1"] and interleave([]) == []


def test_an_address_where_nobody_listens_costs_nothing(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with dial(["127.0.0.9", "::1", "127.0.0.1"], port, timeout=20) as sock:
        assert sock.getpeername()[:2] == ("127.0.0.1", port)


def test_our_own_address_is_the_one_configured(listener: socket.socket) -> None:
    with dial(["127.0.0.1"], listener.getsockname()[1], timeout=20, sources=["2001:db8::5", "127.0.0.7"]):
        accepted, (ip, _) = listener.accept()
        accepted.close()
    assert ip == "127.0.0.7"


def test_each_failure_is_named(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    with pytest.raises(DialError) as error:
        dial(["127.0.0.8", "127.0.0.9"], port, timeout=20)
    assert str(error.value) == f"127.0.0.8:{port}: Connection refused; 127.0.0.9:{port}: Connection refused"
    with pytest.raises(DialError, match="no address"):
        dial([], port, timeout=20)
