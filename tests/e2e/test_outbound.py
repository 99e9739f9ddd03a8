"""Mail out of a whole server: submitted, its MX found by a real DNS server, relayed, retried, bounced."""

from __future__ import annotations

import contextlib
import json
import re
import smtplib
import ssl
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes
from pathlib import Path
from typing import Any

import installed
import pytest
from peer import Peer

from mailguard.testing import DnsServer

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


USER = installed.USERS[0]
ZONE = """
    next.test.     MX 10 mx.next.test.
    mx.next.test.  A  127.0.0.1
    slow.test.     MX 10 mx.next.test.
    null.test.     MX 0 .
"""


ALIASES = """
[[alias]]
address = "sales@office.test"
to = ["partner@next.test"]

[[alias]]
address = "both@office.test"
to = ["partner@next.test", "user1@office.test"]
"""
RULE = """
[[rule]]
name = "marked by the test"
when = 'subject.contains("junk-me")'
then = "junk"
"""


class Office:
    """A server, a DNS server and one next hop that serves every domain."""

    def __init__(self, folder: Path) -> None:
        self.dns = DnsServer(ZONE)
        self.peer = Peer()
        settings = [
            f'dns.nameservers=["{self.dns.nameserver}"]',
            "dns.timeout=1",
            f"relay.port={self.peer.port}",
            "relay.ipv6=false",
            "queue.first_retry=1",
            "queue.jitter=0",
        ]
        self.server = installed.Installed(folder / "office", settings=settings)
        self.server.add_users()
        for file, more in (("accounts.toml", ALIASES), ("policy.toml", RULE)):
            path = self.server.folder / file
            path.write_text(path.read_text() + more)
        self.server.start()

    def submit(self, *to: str, subject: str = "hello", body: str = "text", **more: Any) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with smtplib.SMTP_SSL("127.0.0.1", self.server.port(465), context=context, timeout=20) as client:
            client.login(USER, installed.PASSWORD)
            text = f"From: {USER}\r\nTo: {', '.join(to)}\r\nSubject: {subject}\r\n\r\n{body}\r\n"
            assert client.sendmail(USER, list(to), text, **more) == {}

    def receive(self, sender: str, to: str, subject: str, head: str = "") -> None:
        with smtplib.SMTP("127.0.0.1", self.server.port(25), timeout=20) as client:
            text = f"{head}From: ann@next.test\r\nTo: {to}\r\nSubject: {subject}\r\n\r\ntext\r\n"
            assert client.sendmail(sender, [to], text) == {}

    def queued(self, *more: str) -> list[dict[str, Any]]:
        told = self.server.run("queue", "-c", str(self.server.config), "list", "--json", *more, config=False).stdout
        return [json.loads(line) for line in told.splitlines()]

    def inbox(self) -> list[bytes]:
        folder = self.server.folder / "data/mail/office.test/user1"
        return [path.read_bytes() for name in ("new", "cur") for path in (folder / name).glob("*")]

    def eventually(self, what: Callable[[], Any], seconds: float = 30) -> Any:
        until = time.monotonic() + seconds
        while not (found := what()):
            assert time.monotonic() < until, "\n".join(self.server.log)
            time.sleep(0.1)
        return found

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.server.stop()
        self.server.close()
        self.peer.close()
        self.dns.close()


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    office = Office(tmp_path_factory.mktemp("outbound"))
    yield office
    office.close()


@pytest.fixture(autouse=True)
def calm(office: Office) -> Iterator[None]:
    yield
    office.peer.answers.clear()
    office.dns.mend()


def with_subject(office: Office, subject: str) -> list[bytes]:
    return [raw for raw in office.peer.messages if f"Subject: {subject}\r\n".encode() in raw]


@contextlib.contextmanager
def another_peer(**more: Any) -> Iterator[Any]:
    peer = Peer(**more)
    try:
        yield peer
    finally:
        peer.close()


def test_a_submitted_message_reaches_the_mx_that_dns_names(office: Office) -> None:
    office.submit("bob@next.test", "eve@next.test", subject="out", body=".leading dot")
    (raw,) = office.eventually(lambda: with_subject(office, "out"))
    assert raw.endswith(b"\r\n\r\n..leading dot\r\n")
    assert b"for " not in raw.split(b"\r\n\r\n")[0].split(b"Subject:")[0]  # two recipients: neither is told
    transaction = office.peer.transactions[office.peer.messages.index(raw)]
    assert transaction[0].startswith(f"MAIL FROM:<{USER}>")
    assert sorted(transaction[1:]) == ["RCPT TO:<bob@next.test>", "RCPT TO:<eve@next.test>"]
    assert ("next.test", "MX", "udp") in office.dns.questions
    office.eventually(lambda: not office.queued())
    assert not list((office.server.folder / "data/queue").glob("*.eml"))


def test_a_refusal_comes_back_as_a_report_in_plain_words(office: Office) -> None:
    office.peer.answers["RCPT TO:<nobody@next.test>"] = "550 5.1.1 no such user here"
    office.submit("nobody@next.test", "bob@next.test", subject="half")
    assert office.eventually(lambda: with_subject(office, "half"))
    (raw,) = office.eventually(lambda: [raw for raw in office.inbox() if b"multipart/report" in raw])
    report = message_from_bytes(raw)
    assert report["Return-Path"] == "<>"
    text, status, original = report.get_payload()  # type: ignore[misc]
    words = text.get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert "nobody@next.test" in words and "550 5.1.1 no such user here" in words
    assert "bob@next.test" not in words
    assert "Action: failed" in status.as_string() and "Status: 5.1.1" in status.as_string()  # type: ignore[union-attr]
    assert "Subject: half" in original.as_string()  # type: ignore[union-attr]
    office.eventually(lambda: not office.queued())


def test_a_null_mx_and_a_missing_domain_bounce_at_once(office: Office) -> None:
    office.submit("a@null.test", subject="null-mx")
    office.submit("a@missing.test", subject="no-domain")
    for words in (b"takes no mail (null MX)", b"the domain missing.test does not exist"):
        assert office.eventually(lambda words=words: [raw for raw in office.inbox() if words in raw])


def test_a_temporary_refusal_is_tried_again(office: Office) -> None:
    office.peer.answers["RCPT"] = "451 4.2.1 mailbox busy"
    office.submit("late@slow.test", subject="later")
    (entry,) = office.eventually(lambda: [q for q in office.queued("--to", "slow.test") if q["tries"]])
    assert "451 4.2.1 mailbox busy" in entry["last answer"]
    told = office.server.run("queue", "-c", str(office.server.config), "why", entry["id"], config=False).stdout
    assert "mailbox busy" in told
    office.peer.answers.clear()
    assert office.eventually(lambda: with_subject(office, "later"))


def test_dead_dns_delays_and_says_so(office: Office) -> None:
    office.dns.dead = True
    office.submit("bob@lost.test", subject="dead-dns")
    (entry,) = office.eventually(lambda: [q for q in office.queued("--to", "lost.test") if q["tries"]])
    assert "DNS gave no answer for the MX of lost.test" in entry["last answer"]
    office.dns.mend()
    office.dns.add("lost.test. MX 10 mx.next.test.")
    # Nobody answered, so the destination rests for a minute; an operator need not wait.
    office.server.run("queue", "-c", str(office.server.config), "retry", "--all", config=False)
    assert office.eventually(lambda: with_subject(office, "dead-dns"), 20)


def test_routes_change_with_a_reload(office: Office) -> None:
    with another_peer(name="smart.peer.test") as smart:
        office.dns.fail("routed.test")
        office.submit("bob@routed.test", subject="routed")
        office.eventually(lambda: [q for q in office.queued("--to", "routed.test") if q["tries"]])
        config = office.server.config
        before = config.read_text()
        route = f'\n[[relay.route]]\nrecipient = "routed.test"\nhost = "127.0.0.1"\nport = {smart.port}\ntls = "may"\n'
        config.write_text(before + route)
        office.server.signal(1)
        assert b"Subject: routed" in smart.wait(1, 40)[0]
        config.write_text(before)
        office.server.signal(1)
        office.eventually(lambda: not office.queued("--to", "routed.test"))


def test_an_alias_sends_on_and_a_report_comes_back_to_the_sender(office: Office) -> None:
    office.receive("ann@next.test", "sales@office.test", "on-its-way")
    (raw,) = office.eventually(lambda: with_subject(office, "on-its-way"))
    mail_from, rcpt = office.peer.transactions[office.peer.messages.index(raw)]
    assert rcpt.startswith("RCPT TO:<partner@next.test>")
    rewritten = re.search(r"<(SRS0=\S+=next\.test=ann@office\.test)>", mail_from)
    assert rewritten is not None
    assert raw.endswith(b"\r\n\r\ntext\r\n") and b"Delivered-To: sales@office.test\r\n" in raw
    office.receive("", rewritten[1], "undeliverable")
    (report,) = office.eventually(lambda: with_subject(office, "undeliverable"))
    mail_from, rcpt = office.peer.transactions[office.peer.messages.index(report)]
    assert mail_from.startswith("MAIL FROM:<>") and rcpt.startswith("RCPT TO:<ann@next.test>")
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        office.receive("", rewritten[1].replace("ann@", "eve@"), "forged")


def test_junk_is_not_sent_on_and_not_lost(office: Office) -> None:
    office.receive("ann@next.test", "sales@office.test", "junk-me alone")
    office.receive("ann@next.test", "both@office.test", "junk-me both")
    (held,) = office.queued("--held")
    assert held["recipient"] == "sales@office.test" and held["reason"] == "quarantine"
    junk = office.server.folder / "data/mail/office.test/user1/.Junk/new"
    assert any(b"Subject: junk-me both" in path.read_bytes() for path in junk.iterdir())
    office.server.run("quarantine", "release", held["id"])
    assert office.eventually(lambda: with_subject(office, "junk-me alone"))
    assert not with_subject(office, "junk-me both")


def test_a_message_that_was_sent_on_before_is_refused(office: Office) -> None:
    with pytest.raises(smtplib.SMTPDataError, match="a mail loop"):
        office.receive("ann@next.test", "sales@office.test", "again", "Delivered-To: sales@office.test\r\n")


def test_what_waits_outlives_a_power_cut(office: Office) -> None:
    office.dns.fail("cut.test")
    for n in range(5):
        office.submit("bob@cut.test", subject=f"cut-{n}.")
    office.server.kill()
    office.dns.mend()
    office.dns.add("cut.test. MX 10 mx.next.test.")
    office.server.start()
    office.server.run("queue", "retry", "--all", "-c", str(office.server.config), config=False)
    for n in range(5):
        assert len(office.eventually(lambda n=n: with_subject(office, f"cut-{n}."), 40)) == 1


def test_every_delivery_is_told_in_the_log(office: Office) -> None:
    assert any(re.search(r"delivered id=\S+ to=bob@next.test where=mx.next.test", line) for line in office.server.log)
