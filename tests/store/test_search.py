"""SEARCH: every key against a plain reading of every message, with and without kept text."""

from __future__ import annotations

import datetime
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailguard.protocol.imap import search as s
from mailguard.protocol.imap.describe import describe
from mailguard.protocol.imap.searchtext import search_text
from mailguard.protocol.imap.sort import fold
from mailguard.store.account import AccountStore
from mailguard.store.mailbox import Mailbox
from mailguard.store.search import find
from mailguard.store.snapshot import NewMessage

NOW = 1_800_000_000.0
DAY = datetime.date(2026, 11, 24)
MAILS = [
    b"From: Ann <ann@a.example>\r\nSubject: Invoice\r\nX-Note: blue moon\r\nDate: Tue, 24 Nov 2026 10:00:00 +0100\r\n"
    b"\r\nPlease pay 100%_now\r\n",
    b"From: =?utf-8?q?J=C3=BCrgen?= <j@b.example>\r\nTo: ann@a.example\r\nSubject: Re: Invoice\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    b"U3RyYcOfZSBpbiBNw7xuY2hlbg==\r\n",
    b"Subject: \r\nX-Note:\r\n\r\n" + b"word " * 300_000 + b"\r\nthe very end\r\n",
    b"no header at all\r\n",
]


@pytest.fixture(params=[True, False], ids=["kept", "read"])
def inbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mailbox]:
    account = AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx", keeps_text=request.param)
    box = account.mailbox("INBOX")
    flags = [("\\Seen",), (), ("\\Flagged", "$Work"), ("\\Seen", "\\Deleted")]
    box.append([NewMessage([m], f, date=NOW - n * 86_400) for n, (m, f) in enumerate(zip(MAILS, flags, strict=True))])
    yield box
    account.close()


@pytest.mark.parametrize(
    ("key", "uids"),
    [
        (s.All(), [1, 2, 3, 4]), (s.Not(s.All()), []), (s.NOTHING, []), (s.Uids(((2, 3), (9, 9))), [2, 3]),
        (s.Flag("\\seen"), [1, 4]), (s.Not(s.Flag("\\Seen")), [2, 3]), (s.Flag("$work"), [3]), (s.Flag("wor"), []),
        (s.Header("subject", "invoice"), [1, 2]), (s.Header("subject", ""), [1, 2, 3]),
        (s.Header("from", "jürgen"), [2]),
        (s.Header("x-note", ""), [1, 3]), (s.Header("x-note", "MOON"), [1]), (s.Header("x-note", "invoice"), []),
        (s.Body("%_now"), [1]), (s.Body("STRASSE in"), [2]), (s.Body("invoice"), []), (s.Body("the very end"), [3]),
        (s.Body(""), [1, 2, 3, 4]), (s.Text("moon"), [1]), (s.Text("ann@a"), [1, 2]), (s.Text("please pay"), [1]),
        (s.And((s.Text("invoice"), s.Not(s.Flag("\\Seen")))), [2]), (s.Or(s.Body("pay"), s.Size(True, 10_000)), [1, 3]),
        (s.Not(s.Body("word")), [1, 2, 4]), (s.And((s.Not(s.Text("e")), s.Body("o"))), []),
        (s.Size(False, 30), [4]), (s.Within(True, 86_400), [1, 2]), (s.Within(False, 86_400), [3, 4]),
        (s.Date("sent", "on", DAY), [1]), (s.Date("sent", "before", DAY), []), (s.ModSeq(1), [1, 2, 3, 4]),
        (s.Date("internal", "since", datetime.date(2027, 1, 14)), [1, 2]), (s.EmailId("Mnone"), []),
    ],
)  # fmt: skip
def test_keys(inbox: Mailbox, key: s.Key, uids: list[int]) -> None:
    assert find(inbox, key, NOW) == uids


def test_an_email_id_finds_its_message(inbox: Mailbox) -> None:
    ((id,),) = inbox.rows([3], ("email_id",))
    assert find(inbox, s.EmailId(id), NOW) == [3]


def test_kept_text_may_be_lost_or_cut_off(inbox: Mailbox, tmp_path: Path) -> None:
    for wreck in (b"", b"short"):
        assert find(inbox, s.Body("pay"), NOW) == [1]
        for file in tmp_path.glob("index.db.text-*"):
            file.write_bytes(wreck)
    for file in tmp_path.glob("index.db.text-*"):
        file.unlink()
    assert find(inbox, s.Body("pay"), NOW) == [1]
    assert find(inbox, s.Body("pay"), NOW) == [1]
    inbox.append([NewMessage([b"\r\npay again"])])
    assert find(inbox, s.Body("pay"), NOW) == [1, 5]


def test_text_of_removed_messages_goes(tmp_path: Path) -> None:
    account = AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx")
    box = account.mailbox("INBOX")
    secrets = [b"\r\nsecret " + random.Random(n).randbytes(200_000).hex().encode() for n in range(8)]
    box.append([NewMessage([secret]) for secret in secrets] + [NewMessage([b"\r\nlast and kept"])])
    assert len(find(box, s.Body("secret"), NOW)) == 8
    assert _octets(tmp_path) > 8 * 200_000
    box.remove(list(range(1, 9)))
    account.tidy()
    assert _octets(tmp_path) < 1_000
    assert find(box, s.Body("kept"), NOW) == [9]
    account.close()


def test_text_that_comes_little_by_little_takes_no_more_room(tmp_path: Path) -> None:
    account = AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx")
    box = account.mailbox("INBOX")
    for n in range(60):
        box.append([NewMessage([b"\r\n" + random.Random(n).randbytes(2_000).hex().encode()])])
        assert box.keep_some(10) == 1
    account.tidy()
    assert _octets(tmp_path) < 1.3 * 60 * 2_000
    for n in (0, 30, 59):
        assert find(box, s.Body(random.Random(n).randbytes(2_000).hex()), NOW) == [n + 1]
    account.close()


def _octets(folder: Path) -> int:
    (file,) = folder.glob("index.db.text-*")
    return file.stat().st_size


_WORDS = st.text("aäb ", max_size=4)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.tuples(_WORDS, _WORDS), min_size=1, max_size=6), _WORDS, st.booleans())
def test_text_is_found_exactly(tmp_path: Path, mails: list[tuple[str, str]], needle: str, in_subject: bool) -> None:
    account = AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx")
    name = f"m{len(account.names())}"
    account.create(name)
    box = account.mailbox(name)
    raw = [f"Subject: {subject}\r\n\r\n{body}\r\n".encode() for subject, body in mails]
    box.append([NewMessage([each]) for each in raw])
    find(box, s.Body("x"), NOW)  # keeps the text of all; then one has a copy, and one leaves a gap
    there = dict(enumerate(raw, 1))
    there |= {new: there[old] for old, new in box.copy([1, len(raw)], box)}
    for uid in box.remove([2]):
        del there[uid]
    wanted = fold(needle)
    if in_subject:
        expected = [uid for uid, each in there.items() if wanted in (describe(each).subject or "")]
        assert find(box, s.Header("subject", needle), NOW) == expected
    else:
        expected = [uid for uid, each in there.items() if wanted in search_text(each).body]
        assert find(box, s.Body(needle), NOW) == expected
    both = [uid for uid, text in ((uid, search_text(each)) for uid, each in there.items())
            if wanted in text.header or wanted in text.body]  # fmt: skip
    assert find(box, s.Text(needle), NOW) == both
    account.close()
