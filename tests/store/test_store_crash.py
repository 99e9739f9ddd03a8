"""SIGKILL before every rename, link, removal, write, fsync and commit of the store, and in the middle of every write:
nothing lost, no UID reused."""

from __future__ import annotations

import builtins
import functools
import io
import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailguard.store import arrival, index
from mailguard.store.account import AccountStore
from mailguard.store.snapshot import NewMessage

CALLS = ("rename", "replace", "link", "unlink", "remove", "rmdir", "fsync", "open", "mkdir", "utime", "truncate")
WRITES = ("write", "pwrite")
RENAME = os.rename


def mail(number: int) -> bytes:
    return b"Subject: %d\r\n\r\nbody\r\n" % number


def script(account: AccountStore, tell: Callable[[str, Any], None]) -> None:
    """Some of everything; each line that is told was acknowledged to a client."""
    inbox, sent = account.mailbox("INBOX"), account.mailbox("Sent")
    for number in (1, 2):
        account.deliver([mail(number)])
        tell("there", number)
    tell("modseq", inbox.refresh())
    tell("uids", [(uid, int(subject)) for uid, subject in inbox.rows(None, ("uid", "subject"))])
    for uid, number in zip(
        inbox.append([NewMessage([mail(3)], ("$Work",)), NewMessage([mail(4)])]), (3, 4), strict=True
    ):
        tell("there", number)
        tell("uids", [(uid, number)])
    tell("flags", [uid for uid, _, _ in inbox.store([1, 3], "+", ["\\Flagged", "$New"]).changed])
    inbox.copy([2], sent)
    inbox.move([3], sent)
    inbox.store([4], "+", ["\\Deleted"])
    inbox.expunge()
    tell("gone", 4)
    tell("modseq", inbox.refresh())
    account.create("Later")
    account.rename("Later", "Soon")
    tell("end", None)


Script = Callable[[AccountStore, Callable[[str, Any], None]], None]


def killed_at(folder: Path, count: int, script: Script = script, *, torn: bool = False) -> list[tuple[str, Any]]:
    """Runs the script in a process that dies before its ``count``-th call, or, if that is a write and ``torn``, in the
    middle of it; what it had acknowledged."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            _arm(count, torn)
            account = open_account(folder)
            script(account, lambda kind, value: _tell(writer, kind, value))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        told = [tuple(json.loads(line)) for line in file]
    os.waitpid(pid, 0)
    return told


_write = os.write


def _tell(writer: int, kind: str, value: Any) -> None:
    _write(writer, json.dumps([kind, value]).encode() + b"\n")


def open_account(folder: Path) -> AccountStore:
    return AccountStore(folder / "mail", folder / "index.db", host="mx", grace=3600)


def _arm(left: int, torn: bool) -> None:
    """From now on every call that changes something counts."""
    counter = [left]

    def fatal() -> bool:
        counter[0] -= 1
        return counter[0] == 0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            if fatal():
                die()
            return function(*arguments, **named)

        return called

    def wrap_write(function: Callable[..., Any], at: int) -> Callable[..., Any]:
        """``at`` is the place of the data among the arguments."""

        def called(*arguments: Any, **named: Any) -> Any:
            if fatal():
                if torn:
                    data = arguments[at]
                    some = data[: len(data) // 2 if len(data) > 64 else 3]
                    function(*arguments[:at], some, *arguments[at + 1 :], **named)
                die()
            return function(*arguments, **named)

        return called

    class Raw(io.FileIO):
        """Every file that ``open`` opens ends in one of these, buffered or not."""

        def write(self, data: Any) -> Any:
            return wrap_write(functools.partial(io.FileIO.write, self), 0)(bytes(data))

        def truncate(self, size: int | None = None) -> int:
            return int(wrap(functools.partial(io.FileIO.truncate, self))(size))

    def opened(file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, errors: Any = None,
               newline: Any = None, closefd: bool = True, opener: Any = None) -> Any:  # fmt: skip
        if isinstance(file, int) or not set(mode) & set("wax+"):
            return _open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if fatal():
            die()
        raw = Raw(file, mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

    for name in CALLS:
        setattr(os, name, wrap(getattr(os, name)))
    for name in WRITES:
        setattr(os, name, wrap_write(getattr(os, name), 1))
    writev = os.writev

    def gathered(descriptor: int, buffers: Any) -> int:
        """Takes all buffers as one, which can be cut in two."""
        return int(wrap_write(lambda data: writev(descriptor, [data]), 0)(b"".join(buffers)))

    os.writev = gathered  # type: ignore[assignment]
    defaults = arrival.Receiving._add.__kwdefaults__
    assert defaults["put"] is RENAME  # bound when the module was loaded
    defaults["put"] = os.rename
    builtins.open = io.open = opened  # type: ignore[assignment]
    connect = index._connect

    def watched(path: Path) -> sqlite3.Connection:
        made = connect(path)
        made.set_trace_callback(
            lambda statement: die() if statement.startswith(("COMMIT", "BEGIN")) and fatal() else None
        )
        return made

    index._connect = watched


_open = open


def check(folder: Path, told: list[tuple[str, Any]], *, lose_index: bool) -> None:
    if lose_index:
        for file in folder.glob("index.db*"):
            file.unlink()
    account = open_account(folder)
    found: dict[str, list[tuple[int, int, str]]] = {
        name: [
            (uid, int(subject), flags)
            for uid, subject, flags in account.mailbox(name).rows(None, ("uid", "subject", "flags"))
        ]
        for name in account.names()
        if name in ("INBOX", "Sent")
    }
    numbers = [number for rows in found.values() for _, number, _ in rows]
    inbox = {uid: number for uid, number, _ in found.get("INBOX", ())}
    kinds = {kind for kind, _ in told}
    gone = {value for kind, value in told if kind == "gone"}
    for kind, value in told:
        if kind == "there" and value not in gone:
            # An expunge that had begun may have ended.
            assert value in numbers or (value == 4 and len(told) >= 9), f"message {value} is lost"
        elif kind == "gone":
            assert value not in numbers
        elif kind == "uids":
            assert all(inbox.get(uid, number) == number for uid, number in value)
        elif kind == "flags" and "flags" in kinds:
            assert "\\Flagged $New" in next(flags for uid, _, flags in found["INBOX"] if uid == 1)
    assert len([*(folder / "mail" / "cur").iterdir()]) == len(inbox)
    highest = max((value for kind, value in told if kind == "modseq"), default=0)
    if "INBOX" in found:
        box = account.mailbox("INBOX")
        (uid,) = box.append([NewMessage([mail(99)])])
        used = [uid for kind, value in told if kind == "uids" for uid, _ in value]
        assert uid > max([*used, *inbox], default=0), "a UID is used again"
        assert box.refresh() > highest
        assert box.changes(highest).highest_modseq > highest
    account.close()


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("torn", [False, True], ids=["before", "amid"])
@pytest.mark.parametrize("lose_index", [False, True], ids=["index", "no-index"])
def test_kill_at_every_step(tmp_path: Path, lose_index: bool, torn: bool) -> None:
    for count in range(1, 1000):
        folder = tmp_path / str(count)
        folder.mkdir()
        told = killed_at(folder, count, torn=torn)
        check(folder, told, lose_index=lose_index)
        shutil.rmtree(folder)
        if ("end", None) in told:
            break
    assert 100 < count < 999
