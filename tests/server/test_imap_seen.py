"""Two members of a shared mailbox, each with a \\Seen of his own, over loopback."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import imapoffice
import pytest

from mailguard.app.mail import opener
from mailguard.auth.accounts import Account
from mailguard.store.account import AccountStore
from mailguard.store.mailstore import MailStore

INFO = "Shared/info@office.test"
MEMBERS = ["ann@office.test", "bob@office.test"]
MAIL = b"From: eve@example.org\r\nSubject: %d\r\n\r\nhello\r\n"


class SharedOffice(imapoffice.Office):  # type: ignore[misc]
    ACCOUNTS: ClassVar[dict[str, Any]] = {
        "account": [{"address": address} for address in MEMBERS],
        "shared": [{"address": "info@office.test", "members": MEMBERS, "seen_per_member": True}],
    }

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.stores = MailStore(folder / "index", "mx")
        super().__init__(folder, stack)

    def _open(self, account: Account) -> AccountStore:
        return opener(self.stores, self.directory)(account)

    def info(self) -> AccountStore:
        """The shared account itself."""
        return opener(self.stores, self.directory)(self.directory.accounts["info@office.test"])


@pytest.fixture
def office(tmp_path: Path) -> Iterator[SharedOffice]:
    with contextlib.ExitStack() as stack:
        yield SharedOffice(tmp_path, stack)


@pytest.fixture
def ann(office: SharedOffice) -> Iterator[Any]:
    for number in (1, 2, 3):
        office.info().deliver([MAIL % number])
    with office.bare(user="ann@office.test") as client:
        yield client


@pytest.fixture
def bob(office: SharedOffice) -> Iterator[Any]:
    with office.bare(user="bob@office.test") as client:
        yield client


def told(lines: list[bytes]) -> dict[int, set[str]]:
    """The flags in FETCH answers, by message number."""
    found = (re.match(rb"\* (\d+) FETCH .*FLAGS \(([^)]*)\)", line, re.DOTALL) for line in lines)
    return {int(each[1]): set(each[2].decode().split()) - {"\\Recent"} for each in found if each}


def flags(client: Any) -> list[set[str]]:
    """The flags of all messages."""
    return list(told(client.ok("FETCH 1:* FLAGS")).values())


def modseq(client: Any, number: int) -> int:
    (line,) = client.ok(f"FETCH {number} MODSEQ")
    return int(re.search(rb"MODSEQ \((\d+)\)", line)[1])  # type: ignore[index]


def test_each_member_has_seen_what_he_has_seen(ann: Any, bob: Any) -> None:
    for client in (ann, bob):
        client.ok(f"SELECT {INFO}")
    # Reading marks as seen for the reader alone; any other flag is everybody's.
    assert told(ann.ok("FETCH 1 BODY[TEXT]")) == {1: {"\\Seen"}}
    work = {"\\Flagged", "$Work"}
    assert told(ann.ok("STORE 2 +FLAGS (\\Seen \\Flagged $Work)")) == {2: {"\\Seen", *work}}
    assert flags(ann) == [{"\\Seen"}, {"\\Seen", *work}, set()]
    assert told(bob.ok("NOOP")) == {2: work} and flags(bob) == [set(), work, set()]
    assert ann.ok("SEARCH UNSEEN") == [b"* SEARCH 3"] and bob.ok("SEARCH UNSEEN") == [b"* SEARCH 1 2 3"]
    assert ann.ok("SEARCH SEEN FLAGGED") == [b"* SEARCH 2"] and bob.ok("SEARCH OR SEEN KEYWORD $Work") == [
        b"* SEARCH 2"
    ]
    assert ann.ok(f"STATUS {INFO} (UNSEEN)") == [f"* STATUS {INFO} (UNSEEN 1)".encode()]
    assert bob.ok(f"STATUS {INFO} (UNSEEN)") == [f"* STATUS {INFO} (UNSEEN 3)".encode()]
    # Replacing all flags replaces his own \Seen, and leaves hers.
    assert told(bob.ok("STORE 2 FLAGS (\\Answered)")) == {2: {"\\Answered"}}
    ann.ok("NOOP")
    assert flags(ann)[1] == {"\\Answered", "\\Seen"}
    assert told(ann.ok("STORE 2 FLAGS ()")) == {2: set()}
    assert ann.ok("SEARCH UNSEEN") == [b"* SEARCH 2 3"]
    assert b"* OK [UNSEEN 2] the first unseen message" in ann.ok(f"SELECT {INFO}")


def test_changes_are_counted_for_each_member(ann: Any, bob: Any) -> None:
    for client in (ann, bob):
        client.ok("ENABLE CONDSTORE")
        client.ok(f"SELECT {INFO}")
    before, his = modseq(ann, 1), modseq(bob, 1)
    ann.ok("STORE 1 +FLAGS.SILENT \\Seen")
    assert modseq(ann, 1) > before and modseq(bob, 1) == his
    assert len(ann.ok(f"FETCH 1:* (FLAGS) (CHANGEDSINCE {before})")) == 1
    assert bob.ok(f"FETCH 1:* (FLAGS) (CHANGEDSINCE {his})") == []
    # Her change is no reason to refuse his, his own is.
    assert bob.command(f"STORE 1 (UNCHANGEDSINCE {his}) +FLAGS.SILENT \\Seen")[1].startswith(b"OK")
    result = bob.command(f"STORE 1 (UNCHANGEDSINCE {his}) -FLAGS.SILENT \\Seen")[1]
    assert b"MODIFIED 1" in result and "\\Seen" in flags(bob)[0]
    assert ann.ok(f"SEARCH MODSEQ {before + 1}")[0].startswith(b"* SEARCH 1 (MODSEQ")


def test_a_watching_session_of_the_same_member_is_told(office: SharedOffice, ann: Any, bob: Any) -> None:
    with office.bare(user="ann@office.test") as phone:
        for client in (phone, ann, bob):
            client.ok(f"SELECT {INFO}")
        phone.send(b"x IDLE\r\n")
        assert phone.line().startswith(b"+")
        bob.ok("STORE 1 +FLAGS \\Seen")
        ann.ok("STORE 3 +FLAGS \\Seen")
        assert told([phone.line()]) == {3: {"\\Seen"}}  # and nothing of message 1 before it
        ann.ok("STORE 3 +FLAGS \\Deleted")
        ann.ok("EXPUNGE")
        while b"EXPUNGE" not in (line := phone.line()):
            assert line.startswith(b"* 3 FETCH (")
        assert line == b"* 3 EXPUNGE"
        phone.send(b"DONE\r\n")
        while not phone.line().startswith(b"x OK"):
            pass
    assert b"(MESSAGES 2 UNSEEN 2)" in ann.ok(f"STATUS {INFO} (MESSAGES UNSEEN)")[0]
    assert b"(MESSAGES 2 UNSEEN 1)" in bob.ok(f"STATUS {INFO} (MESSAGES UNSEEN)")[0]


def test_what_was_seen_goes_along_and_comes_along(office: SharedOffice, ann: Any, bob: Any) -> None:
    ann.ok(f"CREATE {INFO}/Done")
    for client in (ann, bob):
        client.ok(f"SELECT {INFO}")
        client.ok("STORE 1 +FLAGS \\Seen")
    bob.ok("STORE 2 +FLAGS \\Seen")
    ann.ok(f"MOVE 1:3 {INFO}/Done")
    assert b"(UNSEEN 2)" in ann.ok(f"STATUS {INFO}/Done (UNSEEN)")[0]
    assert b"(UNSEEN 1)" in bob.ok(f"STATUS {INFO}/Done (UNSEEN)")[0]
    bob.ok(f"SELECT {INFO}/Done")
    bob.ok("COPY 1:3 INBOX")  # his own mailbox: his flags are its flags
    bob.ok("SELECT INBOX")
    assert bob.ok("SEARCH SEEN") == [b"* SEARCH 1 2"]
    # What one files as seen is new for the other.
    assert ann.append(f"{INFO}/Sent", MAIL % 4, "(\\Seen) ").startswith(b"OK")
    assert b"(UNSEEN 0)" in ann.ok(f"STATUS {INFO}/Sent (UNSEEN)")[0]
    assert b"(UNSEEN 1)" in bob.ok(f"STATUS {INFO}/Sent (UNSEEN)")[0]
    assert not [name for name in (office.info().root / ".Sent/cur").iterdir() if "S" in name.name.rpartition(":")[2]]


def test_nothing_is_forgotten_with_the_index(office: SharedOffice, ann: Any, bob: Any) -> None:
    ann.ok(f"SELECT {INFO}")
    ann.ok("STORE 1,3 +FLAGS \\Seen")
    ann.ok("STORE 3 -FLAGS \\Seen")
    bob.ok(f"STATUS {INFO} (UNSEEN)")
    office.info().forget_index()
    assert b"(UNSEEN 2)" in ann.ok(f"STATUS {INFO} (UNSEEN)")[0]
    assert b"(UNSEEN 3)" in bob.ok(f"STATUS {INFO} (UNSEEN)")[0]
    ann.ok(f"SELECT {INFO}")
    assert ann.ok("SEARCH SEEN") == [b"* SEARCH 1"]
