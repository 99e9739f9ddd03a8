"""Where an accepted message goes: mailboxes, queue, both, or back to the client that can keep it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from mailguard.auth.accounts import Account, Directory
from mailguard.auth.accountsfile import AccountsFile
from mailguard.delivery.forward import Forwarder
from mailguard.delivery.intake import Intake, Taken
from mailguard.delivery.local import LocalDelivery
from mailguard.delivery.queue import Queue
from mailguard.delivery.queue_admin import Filter, QueueAdmin
from mailguard.delivery.router import Route, Router
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.pipeline.verdict import Action, Verdict
from mailguard.state.database import Database, metadata
from mailguard.state.settings import StateSettings
from mailguard.store.mailstore import MailStore

RAW = b"From: a@x.test\r\nSubject: s\r\n\r\nbody\r\n"
FILE = {
    "domain": [{"name": "office.test"}],
    "account": [{"address": f"{name}@office.test"} for name in ("ann", "bob", "carl")],
    "alias": [
        {"address": "all@office.test", "to": ["ann@office.test", "bob@office.test", "out@elsewhere.test"]},
        {"address": "out@office.test", "to": ["out@elsewhere.test"]},
        {"address": "both@office.test", "to": ["ann@office.test", "out@elsewhere.test"]},
        {"address": "carl@office.test", "to": ["carl@office.test", "ann@office.test"]},
    ],
}


class Office:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now = 1000.0
        self.database = Database(StateSettings(), folder)
        metadata.create_all(self.database.engine)
        self.queue = Queue(self.database, folder / "queue", now=lambda: self.now)
        self.router = Router(Directory.build(AccountsFile.model_validate(FILE), folder))
        self.stores = MailStore(folder / "index", "mx.test")
        self.broken: dict[str, int] = {}

        def open_store(account: Account) -> Any:
            if account.address.local in self.broken:
                raise OSError(self.broken[account.address.local], "as the test wants it")
            return self.stores.open(account.key, account.maildir)

        forwarder = Forwarder(self.queue, None)
        self.local = LocalDelivery(self.router, open_store, structlog.get_logger(), forwarder, queue=self.queue)
        self.intake = Intake(self.local, forwarder, self.queue, now=lambda: self.now)

    def take(
        self,
        *rcpts: str | Recipient,
        action: Action = Action.ACCEPT,
        verdict: Verdict | None = None,
        hold_until: int = 0,
        **more: Any,
    ) -> Taken:
        recipients = tuple(r if isinstance(r, Recipient) else Recipient(Address.parse(r)) for r in rcpts)
        routes = {}
        for r in recipients:
            route = self.router.route(r.address, may_relay=True)
            assert isinstance(route, Route)
            routes[r.address.key] = route
        envelope = Envelope("m1", Address.parse("a@x.test"), recipients, hold_until=hold_until)
        return self.intake.take(envelope, Message(RAW), routes, verdict or Verdict(action), **more)

    def files(self, user: str, folder: str = "") -> list[Path]:
        path = self.folder / "mail/office.test" / user / folder / "new"
        return list(path.iterdir()) if path.is_dir() else []

    def queued(self, destination: str) -> list[str]:
        works = self.queue.claim(destination, limit=99, lease_seconds=60)
        return [str(r.recipient.address) for work in works for r in work.recipients]

    def deliver_queued(self) -> list[str]:
        told = []
        for work in self.queue.claim("office.test", limit=99, lease_seconds=60):
            message = self.queue.bodies.read(work.message.id)
            told += self.local.deliver(work.message.envelope, message, [r.recipient for r in work.recipients])
        return [str(reply) for reply in told]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    made = Office(tmp_path)
    yield made
    made.database.close()


def test_one_message_to_several_is_one_file_and_an_alias_reaches_all(office: Office) -> None:
    taken = office.take("all@office.test", "ann@office.test", "far@elsewhere.test")
    assert taken.where == {
        "all@office.test": "ann@office.test/INBOX, bob@office.test/INBOX, queue",
        "ann@office.test": "ann@office.test/INBOX",
        "far@elsewhere.test": "queue",
    }
    (first,), (second,) = office.files("ann"), office.files("bob")
    assert first.samefile(second)
    assert sorted(office.queued("elsewhere.test")) == ["far@elsewhere.test", "out@elsewhere.test"]


def test_a_recipient_named_twice_gets_it_once(office: Office) -> None:
    taken = office.take("out@office.test", "OUT@office.test", "ann@office.test", "ann@office.test")
    assert taken.where == {"out@office.test": "queue", "ann@office.test": "ann@office.test/INBOX"}
    assert len(office.files("ann")) == 1
    assert office.queued("elsewhere.test") == ["out@elsewhere.test"]


def test_what_was_discarded_for_one_recipient_does_not_come_back_by_anothers_failure(office: Office) -> None:
    office.broken["ann"] = errno.EIO
    verdict = Verdict(Action.ACCEPT, per_recipient={"ann@office.test": Action.DISCARD})
    taken = office.take("ann@office.test", "both@office.test", verdict=verdict)
    assert taken.where["ann@office.test"] == "discarded"
    office.broken.clear()
    assert office.deliver_queued() == ["250 2.1.5 delivered"]
    assert len(office.files("ann")) == 1


def test_junk_quarantine_and_discard(office: Office) -> None:
    assert office.take("all@office.test", action=Action.JUNK).where["all@office.test"].endswith("not sent on: junk")
    assert len(office.files("ann", ".Junk")) == 1
    assert office.take("out@office.test", action=Action.JUNK).where == {"out@office.test": "quarantine"}
    assert office.take("ann@office.test", action=Action.QUARANTINE).where == {"ann@office.test": "quarantine"}
    assert office.take("ann@office.test", action=Action.DISCARD).where == {"ann@office.test": "discarded"}
    assert office.files("ann") == [] and office.queued("elsewhere.test") == [] == office.queued("office.test")


def test_junk_goes_where_each_account_keeps_it(office: Office) -> None:
    ann = office.stores.open("ann@office.test", office.folder / "mail/office.test/ann")
    ann.create("Werbung", "\\Junk")
    taken = office.take("ann@office.test", "bob@office.test", action=Action.JUNK)
    assert taken.where == {"ann@office.test": "ann@office.test/Werbung", "bob@office.test": "bob@office.test/Junk"}
    assert (len(office.files("ann", ".Werbung")), office.files("ann", ".Junk")) == (1, [])
    assert len(office.files("bob", ".Junk")) == 1
    ann.delete("Werbung")
    office.take("ann@office.test", action=Action.JUNK)
    assert (office.files("ann", ".Werbung"), len(office.files("ann", ".Junk"))) == ([], 1)


@pytest.mark.parametrize("why", ["success", "later", "broken", "held"])
def test_junk_that_had_to_wait_is_still_junk(office: Office, why: str) -> None:
    to = Recipient(Address.parse("all@office.test"), frozenset({"SUCCESS"} if why == "success" else ()))
    office.broken = {"ann": errno.EIO, "bob": errno.EIO} if why == "broken" else {}
    hold = {"hold": "too much"} if why == "held" else {}
    office.take(to, action=Action.JUNK, hold_until=2000 if why == "later" else 0, **hold)
    assert office.files("ann", ".Junk") == []
    office.broken.clear()
    office.now = 3000.0
    QueueAdmin(office.queue).release(Filter())
    assert set(office.deliver_queued()) == {"250 2.1.5 delivered"}
    for user in ("ann", "bob"):
        assert (len(office.files(user, ".Junk")), office.files(user)) == (1, [])
    assert office.queued("elsewhere.test") == []  # nobody wants junk sent on


def test_each_account_that_waits_has_its_own_mailbox(office: Office) -> None:
    office.broken = {"ann": errno.EIO, "bob": errno.EIO}
    verdict = Verdict(Action.ACCEPT, per_recipient={"all@office.test": Action.JUNK})
    office.take("all@office.test", "ann@office.test", verdict=verdict)
    office.broken.clear()
    office.deliver_queued()
    assert (len(office.files("ann")), office.files("ann", ".Junk")) == (1, [])
    assert (len(office.files("bob", ".Junk")), office.files("bob")) == (1, [])


def test_junk_whose_account_is_gone_when_its_time_comes_is_not_lost(office: Office) -> None:
    office.take("both@office.test", action=Action.JUNK, hold_until=2000)
    file = {**FILE, "account": FILE["account"][1:], "alias": [{"address": "both@office.test", "to": ["x@y.test"]}]}
    office.router.directory = Directory.build(AccountsFile.model_validate(file), office.folder)
    office.now = 3000.0
    assert office.deliver_queued() == ["250 2.1.5 delivered"]
    assert office.queued("y.test") == ["x@y.test"]


def test_on_hold_all_of_it_waits(office: Office) -> None:
    taken = office.take("ann@office.test", "far@elsewhere.test", hold="too much")
    assert set(taken.where.values()) == {"held"}
    assert office.files("ann") == [] and office.queued("elsewhere.test") == []


def test_for_later_it_waits_in_the_queue(office: Office) -> None:
    assert office.take("ann@office.test", hold_until=2000).where == {"ann@office.test": "queue"}
    assert office.files("ann") == [] and office.queued("office.test") == []


def test_who_asks_for_a_report_of_success_gets_it_from_the_queue(office: Office) -> None:
    asking = Recipient(Address.parse("ann@office.test"), frozenset({"SUCCESS"}))
    assert office.take(asking).where == {"ann@office.test": "queue"}
    assert office.queued("office.test") == ["ann@office.test"]


def test_a_mailbox_that_fails_waits_and_the_others_have_it_once(office: Office) -> None:
    office.broken["bob"] = errno.EIO
    assert office.take("all@office.test").where["all@office.test"].endswith("queue")
    assert len(office.files("ann")) == 1 and office.files("bob") == []
    office.broken.clear()
    assert office.deliver_queued() == ["250 2.1.5 delivered"]
    assert len(office.files("ann")) == len(office.files("bob")) == 1


def test_an_alias_in_front_of_an_account_is_followed_once(office: Office) -> None:
    office.broken["carl"] = errno.EIO
    office.take("carl@office.test")
    assert len(office.files("ann")) == 1
    office.broken.clear()
    assert office.deliver_queued() == ["250 2.1.5 delivered"]
    assert len(office.files("ann")) == len(office.files("carl")) == 1


def test_over_lmtp_a_recipient_fails_by_itself(office: Office) -> None:
    office.broken["bob"] = errno.ENOSPC
    taken = office.take("ann@office.test", "bob@office.test", may_fail=True)
    assert {key: str(reply) for key, reply in taken.failed.items()} == {
        "bob@office.test": "452 4.3.1 the server's disk is full"
    }
    assert len(office.files("ann")) == 1 and office.queued("office.test") == []


def test_where_neither_mailbox_nor_queue_can_take_it_the_client_must_keep_it(office: Office) -> None:
    office.broken["ann"] = errno.EROFS
    office.queue.put = office.queue.prepare = _fails  # type: ignore[method-assign, assignment]
    with pytest.raises(OSError, match="No space left on device"):
        office.take("ann@office.test")


def _fails(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "text",
    [
        "victim%elsewhere.test@office.test", "elsewhere.test!victim@office.test", '"victim@elsewhere.test"@office.test',
        "@elsewhere.test@office.test",
    ],
)  # fmt: skip
def test_no_local_part_is_a_relay(office: Office, text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError:
        return
    for may_relay in (True, False):
        assert str(office.router.route(address, may_relay=may_relay)).startswith("550 5.1.1")
