"""Descriptions packed together: what went in comes out, in any order, and what is torn is noticed."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.protocol.imap.describe import describe
from mailguard.store import content, parcel
from mailguard.store.account import AccountStore
from mailguard.store.index import IndexTornError
from mailguard.store.parcel import SECTIONS, SIZE, Parcel
from mailguard.store.snapshot import NewMessage

COLUMNS = ("uid", "subject", "cc", "from_key", "message_id", "references", "sent_day", "envelope")


@pytest.fixture
def account(tmp_path: Path) -> AccountStore:
    return AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx")


def mail(number: int) -> NewMessage:
    cc = f"Cc: <c{number}@x.test>\r\n" if number % 3 == 0 else "Cc:\r\n" if number % 3 == 1 else ""
    date = f"Date: Tue, {1 + number % 28} Nov 2026 10:00:00 +0100\r\n" if number % 2 else ""
    head = f"From: p{number % 7}@x.test\r\n{cc}{date}Message-ID: <{number}@x.test>\r\nReferences: <1@x> <2@x>\r\n"
    return NewMessage([f"{head}Subject: number {number}\r\n\r\n{number}\r\n".encode()], date=1_700_000_000)


def expected(uid: int, number: int) -> tuple[object, ...]:
    d = describe(b"".join(map(bytes, mail(number).chunks)))
    references = " ".join(d.references)
    return uid, d.subject, d.cc, d.from_key, d.message_id, references, d.sent_day, d.envelope.decode("latin-1")


def test_messages_are_told_whether_packed_or_loose(account: AccountStore) -> None:
    inbox = account.mailbox("INBOX")
    for first in range(0, 700, 100):
        inbox.append([mail(number) for number in range(first, first + 100)])
    with sqlite3.connect(account.root.parent / "index.db") as db:
        assert db.execute("SELECT count(*) FROM parcel").fetchone() == (2 * len(SECTIONS),)
        assert db.execute("SELECT min(cid), count(*) FROM loose").fetchone() == (2 * SIZE, 701 - 2 * SIZE)
    db.close()
    assert inbox.rows(None, COLUMNS) == [expected(number + 1, number) for number in range(700)]
    some = [1, 254, 255, 256, 257, 511, 512, 513, 700]
    assert inbox.rows(some, COLUMNS) == [expected(uid, uid - 1) for uid in some]
    assert inbox.rows([9_999], COLUMNS) == []
    assert inbox.containing("cc", "c297@") == [298]
    assert inbox.containing("cc", "", [1, 2, 3]) == [1, 2]


def test_messages_moved_to_and_fro_and_copies_of_one(account: AccountStore) -> None:
    inbox, other = account.mailbox("INBOX"), account.mailbox("Sent")
    inbox.append([mail(number) for number in range(300)])
    uids = random.Random(1).sample(range(1, 301), 300)
    for uid in uids[:40]:
        inbox.move([uid], other)
    other.copy([3, 1, 2, 3], other)
    there = [*uids[:40], *uids[:3]]
    assert other.rows(None, COLUMNS) == [expected(place, uid - 1) for place, uid in enumerate(there, 1)]
    by_subject = sorted(range(1, 44), key=lambda place: (f"NUMBER {there[place - 1] - 1}", place))
    assert other.sorted_uids(None, [("base_subject", False)]) == by_subject


def test_equal_messages_stay_in_the_order_of_their_uids(account: AccountStore) -> None:
    inbox = account.mailbox("INBOX")
    inbox.append([mail(number) for number in (6, 0, 7, 1, 8)])
    assert inbox.sorted_uids(None, [("from_key", False), ("base_subject", True)]) == [3, 2, 5, 4, 1]
    assert inbox.sorted_uids(None, [("from_key", True)]) == [1, 4, 5, 2, 3]


def test_removed_messages_leave_their_parcel(account: AccountStore) -> None:
    inbox, path = account.mailbox("INBOX"), account.root.parent / "index.db"
    inbox.append([mail(number) for number in range(600)])
    inbox.remove(list(range(1, 200)))
    inbox.remove(list(range(256, 512)))
    with sqlite3.connect(path) as db:
        before = db.execute("SELECT length(data) FROM parcel WHERE id = 0").fetchone()
        assert content.sweep(db) == 199 + 256
        assert content.sweep(db) == 0
        kept = db.execute("SELECT id, kept FROM parcel ORDER BY id").fetchall()
        assert kept == [(0, 56), (1, 56)]
        assert db.execute("SELECT length(data) FROM parcel WHERE id = 0").fetchone() < before
    db.close()
    left = [*range(200, 256), *range(512, 601)]
    assert inbox.rows(None, COLUMNS) == [expected(uid, uid - 1) for uid in left]
    inbox.append([mail(number) for number in range(600, 900)])
    assert inbox.rows(None, COLUMNS) == [expected(uid, uid - 1) for uid in [*left, *range(601, 901)]]


@pytest.mark.parametrize("wreck", ["UPDATE parcel SET data = substr(data, 1, 100)", "DELETE FROM parcel"])
def test_a_torn_parcel_is_noticed_and_read_again(account: AccountStore, wreck: str) -> None:
    inbox = account.mailbox("INBOX")
    inbox.append([mail(number) for number in range(300)])
    with sqlite3.connect(account.root.parent / "index.db") as db:
        db.execute(wreck)
    db.close()
    with pytest.raises(IndexTornError):
        inbox.rows(None, COLUMNS)
    assert inbox.rows(None, COLUMNS) == [expected(number + 1, number) for number in range(300)]


_FIELDS = st.tuples(*[st.text(st.characters(exclude_characters="\0\1", codec="utf-8")) for _ in SECTIONS[0]])


@given(st.lists(_FIELDS | st.none(), min_size=1, max_size=6).filter(any))
def test_what_is_packed_comes_out_again(rows: list[tuple[str, ...] | None]) -> None:
    packed = parcel.packed(b"" if row is None else parcel.joined([field.encode() for field in row]) for row in rows)
    opened = Parcel(lambda _: parcel.unpacked(packed))
    for at, name in enumerate(SECTIONS[0]):
        found = opened.column(name)
        code = "latin-1" if name in ("envelope", "bodystructure") else "utf-8"
        assert found == ["" if row is None else row[at].encode().decode(code) for row in rows]
