"""IMAP clients that mean harm, or break off: bounded memory, the right answer, and nobody else suffers."""

from __future__ import annotations

import contextlib
import gc
import random
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imapoffice
import pytest

MAIL = b"From: bob@example.org\r\nSubject: x\r\n\r\n" + b"text\r\n" * 20_000


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:
        made = imapoffice.Office(tmp_path, stack)
        yield made
        with made.bare() as client:  # whatever was done, others are served
            client.ok("SELECT INBOX")


@pytest.fixture
def ann(office: Any) -> Iterator[Any]:
    with office.bare() as client:
        yield client


def test_a_literal_announced_and_never_sent_holds_nothing(office: Any, ann: Any) -> None:
    ann.send(b"a APPEND INBOX {50000000}\r\n")
    assert ann.line().startswith(b"+")
    ann.send(b"x" * 1000)
    with office.bare() as other:
        assert other.append("INBOX", b"a: b\r\n\r\n").startswith(b"OK")


def test_what_was_sent_is_not_kept(office: Any) -> None:
    """Neither half a literal whose client has gone, nor a message while its client waits."""
    half = b"x" * 1_000_000
    gc.disable()
    tracemalloc.start()
    try:
        with office.bare() as waiting:
            with office.bare() as client:
                client.send(b"a APPEND INBOX {40000000}\r\n")
                assert client.line().startswith(b"+")
                for _ in range(20):
                    client.send(half)
            waiting.append("INBOX", b"a: b\r\n\r\n" + half * 10)
            deadline = time.monotonic() + 20
            while tracemalloc.get_traced_memory()[0] > 5_000_000 and time.monotonic() < deadline:
                time.sleep(0.02)
            assert tracemalloc.get_traced_memory()[0] < 5_000_000
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.parametrize("size", [b"10000000000", b"99999999999999999999", b"60000000"])
def test_a_literal_far_too_large_is_refused_before_it_comes(ann: Any, size: bytes) -> None:
    ann.send(b"a APPEND INBOX {%b}\r\n" % size)
    assert ann.line().startswith(b"a NO [TOOBIG]")
    assert ann.ok("NOOP") == []


def test_a_huge_literal_that_does_not_wait_ends_the_connection(ann: Any) -> None:
    ann.send(b"a APPEND INBOX {10000000000+}\r\n")
    assert ann.line().startswith(b"* BYE [TOOBIG]")
    assert ann.line() == b""


def test_before_sign_in_literals_are_small(office: Any) -> None:
    with office.bare(sign_in=False) as client:
        client.send(b"a LOGIN {100000}\r\n")
        assert client.line().startswith(b"a NO [TOOBIG]")
        client.send(b"b AUTHENTICATE PLAIN\r\n")
        assert client.line() == b"+ "
        client.send(b"x" * 20_000 + b"\r\n")
        assert client.line().startswith(b"b BAD")


def test_a_line_without_end(ann: Any) -> None:
    ann.send(b"a NOOP" + b" " * 200_000 + b"\r\n")
    assert b" BAD line longer than" in ann.line()
    assert ann.ok("NOOP") == []


@pytest.mark.parametrize(
    "command",
    [
        "SEARCH " + "(" * 5000 + "ALL" + ")" * 5000,
        "SEARCH " + "NOT " * 10_000 + "ALL",
        "SEARCH " + "OR ALL " * 6_000 + "ALL",
        "FETCH 1 (" + "FLAGS " * 9_000 + "FLAGS)",
        "FETCH 1 BODY[" + "1." * 5_000 + "1]",
        "FETCH 1 BODY[HEADER.FIELDS (" + "a " * 20_000 + "a)]",
        'LIST "" (' + "a " * 10_000 + "a)",
        'LIST "" ' + "*%" * 5_000,
        "STORE 1 FLAGS (" + "kw " * 10_000 + "kw)",
        "CREATE " + "a/" * 20_000 + "a",
        "FETCH " + ",".join(str(n) for n in range(1, 12_000)) + " FLAGS",
        "UID FETCH 1:4294967295 FLAGS",
    ],
    ids=lambda text: text[:12],
)
def test_deep_and_long_commands_are_answered_soon(office: Any, ann: Any, command: str) -> None:
    ann.append("INBOX", MAIL)
    ann.ok("SELECT INBOX")
    before = time.process_time()
    ann.command(command)
    assert time.process_time() - before < 2
    assert ann.ok("NOOP") == []


def test_a_thousand_pipelined_commands_in_one_piece(ann: Any) -> None:
    ann.ok("SELECT INBOX")
    ann.send(b"".join(b"p%d NOOP\r\n" % n for n in range(1000)))
    for n in range(1000):
        assert ann.line().startswith(b"p%d OK" % n)


def test_a_reader_that_takes_nothing_is_dropped(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        office = imapoffice.Office(tmp_path, stack, write_timeout=0.5)
        with office.bare() as client:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for _ in range(10):
                client.append("INBOX", MAIL * 8)
            client.ok("SELECT INBOX")
            client.send(b"f FETCH 1:* BODY[]\r\n" * 20)
            deadline = time.monotonic() + 20
            while office.busy() and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not office.busy()


def test_a_small_input_does_not_inflate_to_a_large_one(ann: Any) -> None:
    ann.ok("COMPRESS DEFLATE")
    out = zlib.compressobj(9, zlib.DEFLATED, -15)
    with contextlib.suppress(OSError):
        ann.send(out.compress(b"a NOOP" + b" " * 50_000_000 + b"\r\n") + out.flush(zlib.Z_SYNC_FLUSH))
    back = zlib.decompressobj(-15)
    answer = b""
    while b"line longer than" not in answer:
        answer += back.decompress(ann.sock.recv(65536))


def test_what_is_not_deflate_ends_the_connection(ann: Any) -> None:
    ann.ok("COMPRESS DEFLATE")
    ann.send(b"\xff" * 100)
    assert zlib.decompressobj(-15).decompress(ann.sock.recv(1000)).startswith(b"* BYE")


def test_disconnects_in_every_state(office: Any) -> None:
    starts = [
        b"", b"a", b"a LOGIN {10}\r\n", b"a LOGIN {10}\r\nann", b"a AUTHENTICATE PLAIN\r\n", b"a STARTTLS\r\n",
        b"a STARTTLS\r\n\x16\x03\x01",
    ]  # fmt: skip
    later = [b"b SELECT INBOX\r\nc IDLE\r\n", b"b APPEND INBOX {100}\r\nxx", b"b FETCH", b"b COMPRESS DEFLATE\r\nxx",
             b"b NOTIFY SET (PERSONAL (MessageNew MessageExpunge))\r\n"]  # fmt: skip
    for data in starts:
        with office.bare(sign_in=False) as client:
            client.send(data)
    for data in later:
        for reset in (False, True):
            with office.bare() as client:
                client.send(data)
                if reset:
                    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    deadline = time.monotonic() + 20
    while office.busy() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not office.busy()


def test_commands_smuggled_in_front_of_tls_are_forgotten(office: Any) -> None:
    with office.bare(sign_in=False) as client:
        client.send(b"a STARTTLS\r\nb LOGIN " + imapoffice.USER.encode() + b' "correct horse"\r\nc LIST "" *\r\n')
        assert client.line().startswith(b"a OK")
        sock = imapoffice.trusting().wrap_socket(client.sock, server_hostname="localhost")
        sock.sendall(b"d SELECT INBOX\r\n")
        assert sock.recv(1000).startswith(b"d BAD")
        with contextlib.suppress(OSError, ssl.SSLError):
            sock.close()


def test_noise_is_never_more_than_a_mistake(office: Any) -> None:
    chance = random.Random(7)
    words = [b"a ", b"FETCH ", b"1:* ", b"(", b")", b"BODY[", b"]", b"{3}\r\n", b"{3+}\r\n", b"\r\n", b"UID ", b'"',
             b"\\", b"\0", b"\xff", b"SEARCH ", b"NOT ", b"*", b"$", b"STORE ", b"+FLAGS ", b"\\Seen ", b"SELECT INBOX",
             b"DONE\r\n", b"IDLE\r\n", b"LIST ", b"<0.1>"]  # fmt: skip
    for _ in range(40):
        with office.bare() as client, contextlib.suppress(OSError):
            client.send(b"".join(chance.choices(words, k=chance.randrange(1, 60))) + b"\r\nz LOGOUT\r\n")
            client.sock.shutdown(socket.SHUT_WR)
            while client.sock.recv(65536):
                pass


def test_many_at_once_on_one_mailbox(office: Any) -> None:
    wrong: list[object] = []

    def work(number: int) -> None:
        try:
            with office.bare() as client:
                client.ok("SELECT INBOX")
                for n in range(10):
                    client.append("INBOX", b"Subject: %d %d\r\n\r\nx\r\n" % (number, n))
                    client.ok("UID STORE 1:* +FLAGS.SILENT (\\Seen)")
                    client.ok("UID FETCH 1:* (FLAGS ENVELOPE)")
                    if n % 3 == 2:
                        client.ok("UID STORE * +FLAGS.SILENT (\\Deleted)")
                        client.ok("EXPUNGE")
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    mailbox = office.store.mailbox("INBOX")
    assert len(mailbox.uids()) == len(list((office.folder / "mail/cur").iterdir())) > 20
