"""A full disk, a used-up quota, a read-only disk: the client hears 4xx, the log a cause and a cure, nothing is half-
delivered or lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import loopdisk
import pytest
import smtptalk

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Talk, serving, send, has = smtptalk.Talk, smtptalk.serving, smtptalk.send, smtptalk.has


@contextlib.contextmanager
def small_disk(folder: Path, octets: str) -> Iterator[None]:
    """A tmpfs of that size on the folder."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={octets},mode=755", "tmpfs", str(folder)], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")


@pytest.mark.usefixtures("root")
def test_a_full_disk_is_a_4xx_with_cause_and_cure_and_what_was_taken_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "24m"), serving(tmp_path / "disk/m", 'smtp.spool_over="128K"') as server:
        assert send(server, "before").startswith("250")
        with full(tmp_path / "disk"):
            refused_for(server, "No space left on device", "make room on the disk")
            with Talk(server.port(25)) as talk:
                talk.say("EHLO c.test")
                assert talk.say("MAIL FROM:<a@x.test> SIZE=100000").startswith("452 4.3.1")
                assert "make room on the disk" in server.wait_for("no room for a message that was announced")
                assert talk.say("MAIL FROM:<a@x.test>").startswith("250")
        assert_taken(server)


def test_a_used_up_disk_quota_is_a_4xx_with_cause_and_cure_and_what_was_taken_stays(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        disk = stack.enter_context(loopdisk.btrfs_quota(tmp_path, "40M"))
        server = stack.enter_context(serving(tmp_path / "m", 'smtp.spool_over="128K"'))
        # The mail only: with SQLite's files there, too, connections were seen to close without a reply.
        for name in ("mail", "queue", "spool"):
            stack.enter_context(bound(disk / name, server.folder / "data" / name))
        assert send(server, "before").startswith("250")
        with full(disk):
            refused_for(server, "Disk quota exceeded", "raise the disk quota of the server's user")
        assert_taken(server)


@contextlib.contextmanager
def bound(source: Path, place: Path) -> Iterator[None]:
    """A folder in the place of another one."""
    for folder in (source, place):
        folder.mkdir(exist_ok=True, parents=True)
    subprocess.run(["mount", "--bind", str(source), str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """No room for another block."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while _fill(file):
            os.sync()  # some file systems count what is free when they commit
    yield
    filler.unlink()
    os.sync()


def _fill(file: IO[bytes]) -> int:
    """Writes until nothing more can be written; returns how many octets there was room for."""
    before = file.tell()
    for octets in (65_536, 4_096, 256):
        with contextlib.suppress(OSError):
            while file.write(b"\0" * octets):
                pass
    return file.tell() - before


def refused_for(server: Any, cause: str, remedy: str) -> None:
    """A message in memory and a spooled one are refused for now, and the log says why."""
    for size in (2_000, 600_000):
        reply = send(server, f"full {size}", size=size)
        assert reply.startswith("452 4.3.1"), reply
        line = server.wait_for("cannot be stored id=" if size < 128_000 else "cannot be spooled id=")
        assert cause in line and remedy in line
    assert smtptalk.leftovers(server) == []


def assert_taken(server: Any) -> None:
    """What was answered 250 is there, and nothing else."""
    assert send(server, "after").startswith("250")
    assert has(server, "before") and has(server, "after")
    assert not has(server, "full 2000") and not has(server, "full 600000")


@pytest.mark.usefixtures("root")
def test_a_read_only_disk_is_a_4xx_with_cause_and_cure(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "64m"), serving(tmp_path / "disk/m") as server:
        assert send(server, "before").startswith("250")
        # A bind mount can be read-only while the server writes its log and its pid file elsewhere.
        data = str(server.folder / "data")
        subprocess.run(["mount", "--bind", data, data], check=True)
        try:
            subprocess.run(["mount", "-o", "remount,bind,ro", data], check=True)
            assert send(server, "read-only").startswith("452 4.3.1")
            line = server.wait_for("the message cannot be stored")
            assert "cure=" in line
            assert "remounted" in line or "Read-only" in line
        finally:
            subprocess.run(["umount", "-l", data], check=True)
        assert send(server, "after").startswith("250")
        assert has(server, "after") and not has(server, "read-only")
