"""Forwards and replies beside a delivery: nothing is lost, nothing loops."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog

from mailguard.auth.accounts import Account, Directory
from mailguard.auth.accountsfile import AccountsFile
from mailguard.delivery.forward import Forwarder, Rewriter
from mailguard.delivery.forwarding import Forward, Forwards
from mailguard.delivery.local import LocalDelivery
from mailguard.delivery.personal import Personal
from mailguard.delivery.router import Router
from mailguard.delivery.vacation import Vacation, Vacations
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.state.database import Database, metadata
from mailguard.state.settings import StateSettings
from mailguard.store.mailstore import MailStore
from mailguard.testing import FakeClock

SENDER = Address.parse("bea@elsewhere.test")
HOME = Address.parse("ann@home.test")
TEXT = b"To: ann@office.test\r\nFrom: bea@elsewhere.test\r\nSubject: x\r\n\r\nbody\r\n"


class FakeQueue:
    """Remembers what was put into it."""

    def __init__(self) -> None:
        self.taken: list[tuple[Envelope, bytes, list[str]]] = []
        self.full = False
        self.notify: set[str] = set()

    def put(self, envelope: Envelope, message: Message, recipients: list[Recipient]) -> None:
        if self.full:
            raise OSError("no space left")
        self.notify = set(recipients[0].notify)
        self.taken.append((envelope, bytes(message), [str(r.address) for r in recipients]))


class Office:
    def __init__(self, folder: Path) -> None:
        file = AccountsFile.model_validate(
            {
                "domain": [{"name": "office.test"}],
                "account": [{"address": "ann@office.test"}, {"address": "bob@office.test"}],
            }
        )
        self.directory = Directory.build(file, folder)
        self.ann = self.directory.accounts["ann@office.test"]
        database = Database(StateSettings(), folder)
        metadata.create_all(database.engine)
        clock = FakeClock(1e9)
        self.vacations, self.queue = Vacations(database, now=clock), FakeQueue()
        self.forwards = Forwards(database, "anywhere", self.directory.is_local, ask=False, now=clock)
        self.rewriter = Rewriter(b"secret", ["office.test"])
        forwarder = Forwarder(self.queue, self.rewriter)  # type: ignore[arg-type]
        log = structlog.get_logger()
        personal = Personal(
            self.vacations, self.forwards, forwarder, self.queue, "mail.office.test", lambda: "new1", log,  # type: ignore[arg-type]
            sign=lambda message, domain: message.prepend(f"Signed: {domain}\r\n".encode()), note=self.note, now=clock,
        )  # fmt: skip
        self.notes: list[tuple[str, str, str, str]] = []
        self.stores = MailStore(folder / "index", "mail.office.test", log)
        router = Router(self.directory, self.rewriter)
        self.local = LocalDelivery(router, self.open, log, forwarder, personal)

    def note(self, *note: str) -> None:
        self.notes.append(note)  # type: ignore[arg-type]

    def open(self, account: Account):  # type: ignore[no-untyped-def]
        return self.stores.open(account.key, account.maildir)

    def deliver(self, text: bytes = TEXT, *, sender: Address | None = SENDER, box: str = "INBOX") -> list[str]:
        return list(self.local.deliver_to(Envelope("m1", sender), Message(text), [self.ann], box))

    @property
    def kept(self) -> int:
        return len(list(self.ann.maildir.rglob("new/*")))


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_nothing_set_nothing_happens(office: Office) -> None:
    assert office.deliver() == [] and office.kept == 1 and office.queue.taken == []


def test_a_copy_goes_on_and_one_stays(office: Office) -> None:
    office.forwards.set("ann@office.test", Forward((HOME,), keep=True))
    assert office.deliver() == [] and office.kept == 1
    ((envelope, text, to),) = office.queue.taken
    assert to == ["ann@home.test"] and envelope.id == "m1"
    assert text == b"Delivered-To: ann@office.test\r\n" + TEXT
    path = envelope.mail_from
    assert path is not None and path.domain == "office.test" and office.rewriter.reverse(path) == SENDER


def test_without_a_copy_none_stays(office: Office) -> None:
    office.forwards.set("ann@office.test", Forward((HOME,), keep=False))
    assert office.deliver() == [] and office.kept == 0 and len(office.queue.taken) == 1


def test_what_cannot_be_queued_is_kept(office: Office) -> None:
    office.forwards.set("ann@office.test", Forward((HOME,), keep=False))
    office.queue.full = True
    assert office.deliver() == [] and office.kept == 1


def test_junk_stays_and_gets_no_answer(office: Office) -> None:
    office.forwards.set("ann@office.test", Forward((HOME,), keep=False))
    office.vacations.set("ann@office.test", Vacation(True, text="away"))
    assert office.deliver(box="Junk") == [] and office.queue.taken == [] and office.kept == 1


def test_two_forwards_that_point_at_each_other_end(office: Office) -> None:
    office.forwards.set("ann@office.test", Forward((HOME,), keep=False))
    office.deliver(b"Delivered-To: Ann@office.test\r\n" + TEXT)
    assert office.queue.taken == [] and office.kept == 1


def test_a_null_sender_stays_null_and_one_of_ours_its_own(office: Office) -> None:
    office.forwards.set("ann@office.test", Forward((HOME,)))
    office.deliver(sender=None)
    office.deliver(sender=Address.parse("bob@office.test"))
    assert [str(e.mail_from) for e, _, _ in office.queue.taken] == ["None", "bob@office.test"]


def test_a_failure_is_told_only_where_no_copy_stayed(office: Office) -> None:
    for keep, notify in ((True, {"NEVER"}), (False, set())):
        office.forwards.set("ann@office.test", Forward((HOME,), keep))
        office.deliver()
        assert office.queue.notify == notify


def test_one_answer_a_week(office: Office) -> None:
    office.vacations.set("ann@office.test", Vacation(True, text="away"))
    office.deliver()
    office.deliver()
    ((envelope, text, to),) = office.queue.taken
    assert (envelope.id, envelope.mail_from, to) == ("new1", None, ["bea@elsewhere.test"])
    assert b"Auto-Submitted: auto-replied" in text and text.startswith(b"Signed: office.test\r\n") and office.kept == 2
    assert [note[1] for note in office.notes] == ["answered", "not answered"]


def test_whoever_keeps_no_copy_answers_too(office: Office) -> None:
    office.forwards.set("ann@office.test", Forward((HOME,), keep=False))
    office.vacations.set("ann@office.test", Vacation(True, text="away"))
    office.deliver()
    assert [to for _, _, to in office.queue.taken] == [["ann@home.test"], ["bea@elsewhere.test"]]
    assert [note[1:] for note in office.notes] == [
        ("forwarded", "ann@office.test", "ann@home.test"),
        ("answered", "ann@office.test", "bea@elsewhere.test, as new1"),
    ]


def test_a_fault_in_the_settings_does_not_stop_a_delivery(office: Office) -> None:
    with office.vacations._database.write() as connection:
        connection.exec_driver_sql("DROP TABLE vacation")
        connection.exec_driver_sql("DROP TABLE forward")
    assert office.deliver() == [] and office.kept == 1
