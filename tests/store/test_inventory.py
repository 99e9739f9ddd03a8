"""The first look at a mailbox: what it takes, and what must be mended before it."""

from __future__ import annotations

import contextlib
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from mailguard.store.account import AccountStore
from mailguard.store.survey import survey
from mailguard.store.uidlist import UidlistError, read_uidlist, skim


def fill(root: Path, count: int, *, listed: bool = True) -> None:
    (root / "cur").mkdir(parents=True)
    lines = ["3 V1700000000 N900000 Gabc"]
    for n in range(count):
        base = f"{1_700_000_000 + n}.M{n}P1.host,S=20,W=20"
        (root / "cur" / f"{base}:2,").write_bytes(b"Subject: x\r\n\r\nbody\r\n")
        lines.append(f"{2 * n + 1} G{n:032x} :{base}")
    if listed:
        (root / "dovecot-uidlist").write_text("\n".join([*lines, ""]))


def peak(folder: Path, count: int, *, listed: bool, before: bool) -> int:
    """The most memory in use during a survey and the first look, at the place of another Maildir if ``before``."""
    if before:
        with contextlib.closing(AccountStore(folder / "mail", folder / "index.db", host="mx")) as other:
            other.deliver([b"Subject: gone\r\n\r\n"])
            assert other.mailbox("INBOX").status().messages == 1
        (folder / "mail").rename(folder / "before")
    fill(folder / "mail", count, listed=listed)
    tracemalloc.start()
    assert survey(folder / "mail").folders[0].messages == count
    account = AccountStore(folder / "mail", folder / "index.db", host="mx")
    status = account.mailbox("INBOX").status()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (status.messages, status.uid_next) == (count, 900_000 if listed else count + 1)
    account.close()
    return most


@pytest.mark.parametrize(("listed", "before"), [(True, False), (False, False), (True, True)])
def test_memory_does_not_grow_with_the_mailbox(tmp_path: Path, listed: bool, before: bool) -> None:
    # The least of three: when the collector comes by adds a quarter, whatever the mailbox.
    few, many = (
        min(peak(tmp_path / f"{n}-{turn}", n, listed=listed, before=before) for turn in range(3))
        for n in (2_000, 8_000)
    )
    assert many < few * 1.2


def test_what_is_listed_keeps_its_uid_and_the_rest_follows_by_age(tmp_path: Path, log: Any) -> None:
    root = tmp_path / "mail"
    fill(root, 3)
    (root / "new").mkdir()
    for name in ("cur/1600000000.M2P1.x:2,S", "cur/1600000000.M10P1.x:2,", "new/1500000000.M1P1.x", "cur/ü:2,F"):
        (root / name).write_bytes(b"Subject: %b\r\n\r\n" % name.encode())
    next(root.glob("cur/1700000001*")).unlink()  # listed, and gone
    inbox = AccountStore(root, tmp_path / "index.db", host="mx", log=log).mailbox("INBOX")
    rows = inbox.rows(None, ("uid", "flags", "guid", "name"))
    assert [row[:2] for row in rows] == [
        (1, ""), (5, ""), (900_000, "\\Flagged"), (900_001, ""), (900_002, "\\Seen"), (900_003, ""),
    ]  # fmt: skip
    assert rows[1][2] == f"{2:032x}" and rows[3][3] == "1500000000.M1P1.x:2,"
    listed = read_uidlist(root)
    assert listed is not None and [each.uid for each in listed.records] == [1, 3, 5, 900_000, 900_001, 900_002, 900_003]
    assert not log.lines


@pytest.mark.parametrize("folders", [("cur", "cur"), ("new", "new"), ("new", "cur")])
def test_two_files_of_one_name_are_no_less_than_two(tmp_path: Path, folders: tuple[str, str]) -> None:
    root = tmp_path / "mail"
    fill(root, 2)
    (root / "new").mkdir()
    for n, folder in enumerate(folders):
        name = f"1600000000.M1P1.x{':2,' + 'FS'[n] if folder == 'cur' or n else ''}"
        (root / folder / name).write_bytes(b"Subject: double %d\r\n\r\n" % n)
    inbox = AccountStore(root, tmp_path / "index.db", host="mx").mailbox("INBOX")
    inbox.refresh()
    inbox.refresh()
    subjects = [subject for (subject,) in inbox.rows(None, ("subject",))]
    if folders != ("new", "cur"):  # a reader that moves one may show it in both for a moment
        assert sorted(subjects) == ["double 0", "double 1", "x", "x"]
    assert len(list((root / "cur").iterdir())) + len(list((root / "new").iterdir())) == 4


@pytest.mark.parametrize(
    "text",
    [
        "3 V7 N9 Gab\n1 :a\n2 W3 :b\n",
        "3 V7 N1\n1 :a\n5 :b",
        "1 7 9\n1 a\n2 b\n",
        "3 V7 N3\n\n1 :a\nx\n2 :b\n",
        "3 V7 N3\n",
    ],
)
def test_a_list_skimmed_says_what_a_list_read_says(tmp_path: Path, text: str) -> None:
    (tmp_path / "dovecot-uidlist").write_text(text)
    records: list[Any] = []
    skimmed, whole = skim(tmp_path, records.append), read_uidlist(tmp_path)
    assert skimmed is not None and whole is not None
    assert records == whole.records
    assert (skimmed.uid_validity, skimmed.next_uid, skimmed.torn) == (whole.uid_validity, whole.next_uid, whole.torn)


@pytest.mark.parametrize("text", ["", "3 V7 N9", "2 V7\n", "3 V7 N9\n2 :a\n1 :b\n", "3 N1\n"])
def test_a_list_that_cannot_be_read_cannot_be_skimmed(tmp_path: Path, text: str) -> None:
    (tmp_path / "dovecot-uidlist").write_text(text)
    for read in (skim, read_uidlist):
        with pytest.raises(UidlistError):
            read(tmp_path)
