"""Descriptions in the index: ready answers, terms, and that they never change a UID or a MODSEQ."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mailguard.protocol.imap.describe import describe
from mailguard.store import content
from mailguard.store.account import AccountStore
from mailguard.store.snapshot import NewMessage

ONE = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <j@office.example>\r\nTo: info@office.example\r\nSubject: Re: Invoice 7\r\n"
    b"Date: Tue, 24 Nov 2026 10:00:00 +0100\r\nMessage-ID: <b@x>\r\nReferences: <a@x> <a2@x>\r\n\r\nthe money\r\n"
)
TWO = b"Subject: hello\n\nno date\n"


@pytest.fixture
def account(tmp_path: Path) -> AccountStore:
    return AccountStore(tmp_path / "mail", tmp_path / "index.db", host="mx.example.org")


def test_ready_answers_of_appended_delivered_and_found_mail(account: AccountStore) -> None:
    inbox = account.mailbox("INBOX")
    inbox.append([NewMessage([ONE[:40], ONE[40:]])])
    account.deliver([ONE])
    (inbox.path / "new" / "1700000000.M1P1.elsewhere").write_bytes(TWO)
    before = inbox.changes(0)
    d = describe(ONE)
    rows = inbox.rows(None, ("envelope", "uid", "bodystructure", "preview", "size"))
    assert rows[0] == (d.envelope.decode(), 1, d.bodystructure.decode(), "the money", len(ONE))
    assert sorted(row[4] for row in rows) == [len(TWO) + TWO.count(b"\n"), len(ONE), len(ONE)]
    assert inbox.rows([1], ("body", "uid", "preview")) == [(d.body.decode(), 1, "the money")]
    assert inbox.changes(0) == before


def test_terms(account: AccountStore) -> None:
    inbox = account.mailbox("INBOX")
    inbox.append([NewMessage([ONE]), NewMessage([TWO])])
    wanted = ("base_subject", "is_reply", "from_key", "message_id", "references", "sent_day")
    assert inbox.rows(None, wanted) == [("INVOICE 7", 1, "J", "b@x", "a@x a2@x", 20781), ("HELLO", 0, "", "", "", None)]
    assert inbox.containing("subject", "invoice") == [1]
    assert inbox.containing("subject", "") == [1, 2]
    assert inbox.containing("from", "") == [1]
    assert inbox.containing("to", "%") == []
    assert inbox.containing("subject", "e", [2]) == [2]
    assert inbox.matching("{size} > ? AND {uid} < 9", len(TWO) + 9) == [1]
    with pytest.raises(ValueError, match="unknown"):
        inbox.rows(None, ("nothing",))


def test_copies_share_their_content_and_keep_their_email_id(account: AccountStore) -> None:
    inbox, sent = account.mailbox("INBOX"), account.mailbox("Sent")
    inbox.append([NewMessage([ONE])])
    inbox.copy([1], sent)
    inbox.move([1], sent)
    (ids,) = {tuple(sent.rows(None, ("email_id",)))}
    assert ids[0] == ids[1] and ids[0][0].startswith("M")
    sent.remove([1, 2])
    with sqlite3.connect(account.root.parent / "index.db") as db:
        assert content.sweep(db) == 1
    db.close()


def test_strange_text_is_kept(account: AccountStore) -> None:
    inbox = account.mailbox("INBOX")
    inbox.append([NewMessage([b"Subject: a\0b\xff\xed\xa0\x80\r\nFrom: \xff\r\n\r\n"])])
    assert inbox.containing("subject", "a b") == [1]
