"""The queue and its runner killed before and after every fsync, unlink, rename and commit: what was taken arrives."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from peer import Peer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
HERE = Path(__file__).parent


@pytest.fixture
def peer() -> Iterator[Any]:
    peer = Peer(answers={"RCPT TO:<bad@x.test>": "550 5.1.1 no such user"})
    yield peer
    peer.close()


@pytest.fixture
def lives() -> Iterator[Any]:
    command = [sys.executable, str(HERE / "outbound_life.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None

        def live(folder: Path, port: int, *, step: int, messages: int) -> tuple[int, list[str]]:
            """One life: the steps it had, 0 if it was killed, and the messages that were taken."""
            print(folder, port, step, messages, file=process.stdin, flush=True)
            steps, *taken = process.stdout.readline().split()
            return int(steps), taken

        yield live
        process.stdin.close()


def test_no_crash_loses_or_bounces_what_was_taken(tmp_path: Path, peer: Any, lives: Any) -> None:
    for step in range(1, 500):
        folder = tmp_path / f"step{step}"
        folder.mkdir()
        del peer.messages[:], peer.transactions[:]
        steps, taken = lives(folder, peer.port, step=step, messages=1)
        if not steps:
            assert lives(folder, peer.port, step=0, messages=0)[0]
        check(peer, taken, step)
        if steps:
            assert step > 20 and taken == ["m0"]
            return
    raise AssertionError("it never came to its end")


def check(peer: Any, taken: list[str], step: int) -> None:
    arrived: Counter[tuple[str, str]] = Counter()
    reports: Counter[str] = Counter()
    for raw, transaction in zip(peer.messages, peer.transactions, strict=True):
        number = next((f"m{n}" for n in range(1) if f"Subject: number {n}\r\n".encode() in raw), "?")
        if transaction[0].startswith("MAIL FROM:<>"):
            assert b"Final-Recipient: rfc822; bad@x.test" in raw
            reports[number] += 1
        else:
            arrived.update((number, line) for line in transaction[1:] if "bad@" not in line)
    for ident in taken:
        for rcpt in ("RCPT TO:<good@x.test>", "RCPT TO:<good@y.test>"):
            assert 1 <= arrived[ident, rcpt] <= 2, (step, ident, rcpt, arrived)
        assert 1 <= reports[ident] <= 2, (step, ident, reports)
    assert max([*arrived.values(), *reports.values(), 0]) <= 2, (step, arrived, reports)
