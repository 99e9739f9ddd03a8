"""A large message on its way through: from the spool threshold on it lies on disk, and memory stays as it is."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from smtphouse import House, converse

LINE = b"x" * 74 + b"\r\n"
ROOM = 6 << 20  # octets; pieces of 1 MiB are copied here and there, the message has many more


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.database.close()


def large(octets: int, first: bytes) -> Iterator[bytes]:
    yield b"From: ann@office.test\r\nSubject: large\r\nBcc: nobody@x.test\r\n\r\n" + first
    block = LINE * 800
    for _ in range(octets // len(block)):
        yield block


@pytest.mark.parametrize(
    ("login", "first"),
    [("", b""), ("ann@office.test", b""), ("ann@office.test", b"y" * 5000 + b"\r\n")],
    ids=["from outside", "submitted and signed", "submitted, folded and signed"],
)
def test_memory_does_not_grow_with_the_message(house: House, login: str, first: bytes) -> None:
    spooled: list[int] = []
    assert converse(house, login, large(200_000, first), lambda: None).startswith("250")  # what is made once is made
    tracemalloc.start()
    try:
        reply = converse(house, login, large(24 << 20, first), lambda: spooled.extend(house.spooled()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reply.startswith("250 2.0.0 taken as") and spooled
    assert peak < ROOM, f"{peak >> 20} MiB at the most"
    largest = max((house.folder / "mail/office.test/ann/new").iterdir(), key=lambda path: path.stat().st_size)
    raw = largest.read_bytes()
    assert raw.endswith(LINE * 800) and (b"DKIM-Signature:" in raw) is bool(login)
    assert (b"nobody@x.test" in raw) is not bool(login) and raw.count(LINE) > (24 << 20) // len(LINE) - 900
    assert list((house.folder / "spool").iterdir()) == []


def test_a_small_message_needs_no_spool(house: House) -> None:
    spooled: list[int] = []
    message = iter([b"Subject: small\r\n\r\n" + LINE * 100])
    assert converse(house, "", message, lambda: spooled.extend(house.spooled())).startswith("250")
    assert not spooled and not (house.folder / "spool").exists()
