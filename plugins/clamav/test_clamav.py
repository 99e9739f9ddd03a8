"""The clamav check, against a real clamd with a signature of our own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import mailguard_clamav
from mailguard.plugin import Finding
from mailguard.testing import Program, free_port, make_message, need, run_check

VIRUS = b"mailguard-test-virus-7a1f"


@pytest.fixture(scope="module")
def clamd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program, folder = need("clamd"), tmp_path_factory.mktemp("clamd")
    (folder / "db").mkdir()
    (folder / "db" / "test.ndb").write_text(f"Test.Mailguard:0:*:{VIRUS.hex()}\n")
    port = free_port()
    (folder / "clamd.conf").write_text(
        f"Foreground yes\nTCPSocket {port}\nTCPAddr 127.0.0.1\nDatabaseDirectory {folder / 'db'}\n"
        "StreamMaxLength 1M\nScanMail yes\nUser root\n"
    )
    command = [program, "--config-file", str(folder / "clamd.conf")]
    with Program(command, f"127.0.0.1:{port}", folder=folder) as running:
        yield running


def check(place: str, body: bytes) -> Finding:
    finding = run_check(mailguard_clamav, message=make_message(body), options={"address": place})
    assert finding is not None
    return finding


@pytest.mark.e2e
def test_real_clamd(clamd: Program) -> None:
    clean, infected = check(clamd.place, b"Hello\n"), check(clamd.place, b"x " + VIRUS + b"\n")
    assert clean.word == "clean"
    assert (infected.word, infected.reason) == ("infected", "it carries the virus Test.Mailguard.UNOFFICIAL")
    assert infected.facts["virus"] == "Test.Mailguard.UNOFFICIAL"


@pytest.mark.e2e
def test_real_clamd_has_a_limit(clamd: Program) -> None:
    assert check(clamd.place, b"lots\n" * 500_000).word == "too-large"
    assert check(clamd.place, b"Hello\n").word == "clean"


def test_nobody_is_there(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        check(str(tmp_path / "clamd.ctl"), b"Hello\n")


def answering(answer: bytes) -> str:
    """A clamd that says this, once; its place."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with server, server.accept()[0] as client:
            received = b""
            while not received.endswith(b"\0\0\0\0"):
                received += client.recv(65_536)
            client.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (b"stream: OK\0", "clean"),
        (b"stream: Win.Trojan.Agent-1 FOUND\0", "infected"),
        (b"stream: Heuristics.Phishing.Email.SpoofedDomain FOUND\0", "suspect"),
        (b"stream: PUA.Win.Packer FOUND\0", "suspect"),
        (b"INSTREAM size limit exceeded. ERROR\0", "too-large"),
    ],
)
def test_answers(answer: bytes, word: str) -> None:
    assert check(answering(answer), b"Hello\n").word == word


@pytest.mark.parametrize("answer", [b"stream: lstat() failed. ERROR\0", b"", b"HTTP/1.0 400 Bad Request\r\n"])
def test_anything_else_is_an_error(answer: bytes) -> None:
    with pytest.raises(OSError, match="clamd says"):
        check(answering(answer), b"Hello\n")


def test_too_large_messages_are_not_sent() -> None:
    finding = run_check(mailguard_clamav, options={"address": "/nowhere", "max_size": 10})
    assert finding is not None
    assert finding.word == "too-large"


def test_a_wrong_address_is_told() -> None:
    with pytest.raises(ValueError, match="neither host:port nor"):
        run_check(mailguard_clamav, options={"address": "localhost"})
