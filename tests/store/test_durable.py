"""What a power cut leaves of a delivery: the whole message once it was answered, and never a part of one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import loopdisk
import pytest

from mailguard.store import durable, uidlist
from mailguard.store.account import AccountStore
from mailguard.store.snapshot import NewMessage

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro
36 22 8:17 / /srv/my\\040mail rw - xfs /dev/sdb1 rw,attr2,logdev=/dev/sdc1
40 22 0:41 /@home /home rw shared:3 master:1 - btrfs /dev/sdd1 rw,subvol=/@home
torn line
"""


@pytest.mark.parametrize(
    ("device", "kind", "option"),
    [("8:1", "ext4", "errors=remount-ro"), ("8:17", "xfs", "logdev="), ("0:41", "btrfs", "subvol="), ("9:9", "", "")],
)
def test_the_file_system_of_a_device_is_known(device: str, kind: str, option: str) -> None:
    found, options = durable.mounted(MOUNTS, device)
    assert found == kind and option in options


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 with a journal."""
    with loopdisk.ext4(tmp_path) as place:
        durable.keeps_order.cache_clear()  # the same number may have been another file system
        for name in ("tmp", "new"):
            (place / name).mkdir()
        os.sync()
        yield place


def test_one_commit_is_enough_where_the_journal_keeps_order(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if durable._sync_file_range is None:
        pytest.skip("needs Linux 5.2")
    calls = _traced(monkeypatch)
    durable.put(f"{disk}/tmp/a", f"{disk}/new/a", [b"x" * 9_000])
    assert calls == ["write", "rename", "fsync"]


@pytest.mark.parametrize("why", ["no journal", "tmpfs"])
def test_two_commits_are_made_where_it_may_not(why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    durable.keeps_order.cache_clear()
    if why == "tmpfs":
        monkeypatch.setattr(durable, "_sync_file_range", None)
        _put(tmp_path, monkeypatch)
    else:
        with loopdisk.ext4(tmp_path, "-O", "^has_journal") as place:
            _put(place, monkeypatch)


def _put(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tmp", "new"):
        (place / name).mkdir()
    calls = _traced(monkeypatch)
    durable.put(f"{place}/tmp/a", f"{place}/new/a", [b"x"])
    assert calls == ["write", "fsync", "rename", "fsync"]


def _traced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    calls: list[str] = []

    def tracing(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any) -> Any:
            calls.append(name.removesuffix("v"))
            return real(*arguments)

        return called

    for name in ("writev", "rename", "fsync"):
        monkeypatch.setattr(os, name, tracing(name, getattr(os, name)))
    return calls


@pytest.mark.parametrize("size", [1, 10_000, 3_000_000])
def test_what_was_answered_is_there_after_a_power_cut(size: int, disk: Path, tmp_path: Path) -> None:
    durable.put(f"{disk}/tmp/a", f"{disk}/new/a", [b"%d" % size, memoryview(b"y" * size)])
    with loopdisk.power_cut(tmp_path, "after") as left:
        assert (left / "new/a").read_bytes() == b"%d" % size + b"y" * size
        assert not any((left / "tmp").iterdir())


def test_a_link_to_it_is_there_after_a_power_cut(disk: Path, tmp_path: Path) -> None:
    (disk / "other").mkdir()
    durable.put(f"{disk}/tmp/a", f"{disk}/new/a", [b"y" * 5_000])
    durable.put_link(f"{disk}/new/a", f"{disk}/other/b")
    with loopdisk.power_cut(tmp_path, "after") as left:
        assert (left / "other/b").read_bytes() == b"y" * 5_000


@pytest.mark.parametrize("size", [1, 10_000, 3_000_000])
def test_no_commit_shows_a_part_of_a_message(
    size: int, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another's fsync commits the rename before ours does: then the octets must be there, too."""
    real, seen = os.fsync, []

    def fsync(descriptor: int) -> None:
        other = os.open(disk / f"other{len(seen)}", os.O_WRONLY | os.O_CREAT)
        real(other)
        os.close(other)
        with loopdisk.power_cut(tmp_path, f"cut{len(seen)}") as left:
            seen.append([file.read_bytes() for file in (left / "new").iterdir()])
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        durable.put(f"{disk}/tmp/a", f"{disk}/new/a", [b"y" * size])
    assert [b"y" * size] in seen  # the commit in between was seen at all
    assert all(found in ([], [b"y" * size]) for found in seen)


@pytest.mark.parametrize("size", [1, 3_000_000])
def test_an_append_is_whole_in_every_commit_and_there_once_it_was_answered(
    size: int, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = AccountStore(disk / "mail", tmp_path / "index.db", host="mx")
    box = account.mailbox("INBOX")
    box.append([NewMessage([b"a: b\r\n\r\nthe first one\r\n"])])
    before = {file.name for file in (disk / "mail/cur").iterdir()}
    bodies = {b"a: b\r\n\r\n" + letter * size for letter in (b"x", b"y")}
    real, seen = os.fsync, []

    def fsync(descriptor: int) -> None:
        other = os.open(disk / f"other{len(seen)}", os.O_WRONLY | os.O_CREAT)
        real(other)
        os.close(other)
        with loopdisk.power_cut(tmp_path, f"cut{len(seen)}") as left:
            files = [file for file in (left / "mail/cur").iterdir() if file.name not in before]
            seen.append({file.read_bytes() for file in files})
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        uids = box.append([NewMessage([body]) for body in bodies])
    names = {Path(box.file(uid)).name for uid in uids}
    account.close()
    assert any(seen) and all(found <= bodies for found in seen)
    with loopdisk.power_cut(tmp_path, "after") as left:
        assert {(left / "mail/cur" / name).read_bytes() for name in names} == bodies
        listed = uidlist.read_uidlist(left / "mail")
        assert listed is not None and [record.uid for record in listed.records][-2:] == uids


@pytest.mark.parametrize("step", ["writev", "rename", "fsync", "link"])
def test_what_fails_leaves_nothing_behind(step: str, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (disk / "kept").write_bytes(b"kept")

    def failing(*arguments: Any) -> Any:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, failing)
        with pytest.raises(OSError, match="Input/output"):
            durable.put(f"{disk}/tmp/a", f"{disk}/new/a", [b"y"])
            durable.put_link(f"{disk}/kept", f"{disk}/new/b")
    left = [name for name in ("tmp/a", "new/b") if (disk / name).exists()]
    assert left == [] and (disk / "new/a").exists() == (step == "link")
