"""What other programs changed in a mailbox: found by looking at what changed alone, and as if all were looked at."""

from __future__ import annotations

import os
import random
import shutil
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailguard.store import sync
from mailguard.store.account import AccountStore
from mailguard.store.survey import differences
from mailguard.store.sync import Sync

OLD = 1_700_000_000


def fill(root: Path, count: int) -> None:
    for folder in ("cur", "new", "tmp"):
        (root / folder).mkdir(parents=True)
    lines = [f"3 V{OLD} N{count + 1} G{'a' * 32}"]
    for n in range(count):
        base = f"{OLD + n}.M{n}P1.host,S=20,W=20"
        (root / "cur" / f"{base}:2,").write_bytes(b"Subject: %06d\r\n\r\n\r\n" % n)
        lines.append(f"{n + 1} :{base}")
    (root / "dovecot-uidlist").write_text("\n".join([*lines, ""]))


def _one(root: Path, rng: random.Random) -> str:
    return rng.choice(sorted(file.name for file in (root / "cur").iterdir()))


def _flag(root: Path, rng: random.Random, number: int) -> None:
    name = _one(root, rng)
    (root / "cur" / name).rename(root / "cur" / f"{name.partition(':')[0]}:2,{rng.choice(['', 'S', 'FS', 'T'])}")


def _remove(root: Path, rng: random.Random, number: int) -> None:
    (root / "cur" / _one(root, rng)).unlink()


def _add(root: Path, rng: random.Random, number: int) -> None:
    folder, info = rng.choice([("cur", ":2,S"), ("cur", ""), ("new", "")])
    (root / folder / f"{OLD + 9_000 + number}.M1P2.host{info}").write_bytes(b"Subject: %06d\r\n\r\n" % (9_000 + number))


def _back_to_new(root: Path, rng: random.Random, number: int) -> None:
    name = _one(root, rng)
    (root / "cur" / name).rename(root / "new" / name.partition(":")[0])


def _list_another(root: Path, rng: random.Random, number: int) -> None:
    text = (root / "dovecot-uidlist").read_text()
    head, _, rest = text.partition("\n")
    last = max([int(line.split(" ")[0]) for line in rest.splitlines()], default=0)
    uid = max(last + 1, int(head.split(" N")[1].split(" ")[0])) + rng.randrange(3)
    name = f"{OLD + 9_500 + number}.M1P3.host"
    (root / "cur" / f"{name}:2,").write_bytes(b"Subject: %06d\r\n\r\n" % (9_500 + number))
    (root / "dovecot-uidlist").write_text(f"{text}{uid} :{name}\n")


def _forget_a_line(root: Path, rng: random.Random, number: int) -> None:
    head, *lines = (root / "dovecot-uidlist").read_text().splitlines()
    lines.remove(rng.choice(lines))
    (root / "dovecot-uidlist").write_text("\n".join([head, *lines, ""]))


CHANGES: list[Callable[[Path, random.Random, int], None]] = [
    _flag, _flag, _remove, _add, _add, _back_to_new, _list_another, _forget_a_line
]  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_the_same_is_found_as_by_a_look_at_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    boxes = []
    for name in ("few", "all"):
        fill(tmp_path / name, 30)
        boxes.append(AccountStore(tmp_path / name, tmp_path / f"{name}.db", host="mx").mailbox("INBOX"))
    few, every = boxes
    at, taken = Sync._few_changes, []

    def counted(sync: Sync, state: Any) -> Any:
        taken.append(at(sync, state))
        return taken[-1]

    for turn in range(25):
        for box in boxes:
            monkeypatch.setattr(Sync, "_few_changes", counted if box is few else lambda *_: None)
            rng = random.Random(1_000 * seed + turn)
            for number in range(rng.randrange(1, 4)):
                rng.choice(CHANGES)(box.path, rng, 10 * turn + number)
            box.refresh()
        rows = [box.rows(None, ("uid", "flags", "subject")) for box in boxes]
        assert rows[0] == rows[1]
        assert few.status().messages == every.status().messages == len(rows[0])
        assert (few.status().unseen, few.status().uid_next) == (every.status().unseen, every.status().uid_next)
        assert {subject for *_, subject in rows[0]} == {
            file.read_bytes()[9:15].decode() for file in (few.path / "cur").iterdir()
        }
    assert any(taken)


def test_memory_grows_little_with_what_did_not_change(tmp_path: Path) -> None:
    most = []
    for count in (1_000, 6_000):
        root = tmp_path / str(count)
        fill(root, count)
        box = AccountStore(root, tmp_path / f"{count}.db", host="mx").mailbox("INBOX")
        box.refresh()
        file = min((root / "cur").iterdir())
        tracemalloc.start()
        file.rename(f"{file}S")
        box.refresh()
        most.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert box.status().unseen == count - 1
    assert most[1] - most[0] < 5_000 * 200  # octets a message: a number, and its place in a set that has room to grow


def test_two_files_of_one_base_name_are_two_messages(tmp_path: Path) -> None:
    fill(tmp_path / "mail", 9)
    box = AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx").mailbox("INBOX")
    box.refresh()
    first, second, *_ = sorted((box.path / "cur").iterdir())
    shutil.copy2(first, f"{first}S")
    second.rename(f"{second}F")
    box.refresh()
    (box.path / "new" / first.name.partition(":")[0]).write_bytes(b"Subject: other\r\n\r\n")
    second.with_name(f"{second.name}F").rename(second)
    for _ in range(2):
        box.refresh()
    found = box.rows(None, ("uid", "subject"))
    assert found[:9] == [(n + 1, f"{n:06d}") for n in range(9)]
    assert sorted(subject for _, subject in found[9:]) == ["000000", "other"]


def _twin(root: Path, rng: random.Random, number: int) -> None:
    """A file of another message's base name: another message, or the same once more."""
    name = _one(root, rng)
    info = rng.choice(["", ":2,", ":2,S", ":2,FS"])
    twin = root / rng.choice(["cur", "new"]) / f"{name.partition(':')[0]}{info}"
    if not twin.exists():
        (shutil.copy2 if rng.random() < 0.5 else os.link)(root / "cur" / name, twin)


def _two_new(root: Path, rng: random.Random, number: int) -> None:
    for info in ("", ":2,S"):
        (root / "new" / f"{OLD + 9_700 + number}.M1P4.host{info}").write_bytes(b"Subject: %06d\r\n\r\n" % number)


@pytest.mark.parametrize("seed", range(10))
def test_base_names_are_one_message_each_after_any_look(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    fill(tmp_path / "mail", 8)
    account = AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx")
    box = account.mailbox("INBOX")
    for turn in range(10):
        for number in range(rng.randrange(1, 3)):
            rng.choice([_twin, _twin, _two_new, _flag, _remove, _add])(box.path, rng, 10 * turn + number)
        box.refresh()
        files = [Path(path).name for path in box.files().values()]
        assert sorted(files) == sorted(file.name for file in (box.path / "cur").iterdir())
        assert len({name.partition(":")[0] for name in files}) == len(files)
        assert not [*(box.path / "new").iterdir()]
        assert [*differences(account)] == []


def test_a_base_name_from_before_the_clock_was_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing tells that such a file is no new message; both are shown, and told apart once one of them changes."""
    fill(tmp_path / "mail", 3)
    account = AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx")
    box = account.mailbox("INBOX")
    base = f"{int(time.time()) + 50}.M1P1.host"
    (box.path / "cur" / f"{base}:2,S").write_bytes(b"Subject: first\r\n\r\n")
    assert box.uids() == [1, 2, 3, 4]
    (box.path / "new" / base).write_bytes(b"Subject: second\r\n\r\n")
    monkeypatch.setattr(sync.time, "time", lambda at=time.time: at() + 100)  # type: ignore[attr-defined]
    assert sorted(subject for (subject,) in box.rows(None, ("subject",)))[-2:] == ["first", "second"]
    (box.path / "cur" / f"{base}:2,S").rename(box.path / "cur" / f"{base}:2,FS")
    assert sorted(subject for (subject,) in box.rows(None, ("subject",)))[-2:] == ["first", "second"]
    assert [*differences(account)] == []
