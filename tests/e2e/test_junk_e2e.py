"""What a user does teaches the filter of a running server: a move into Junk, a mark, and the command beside it."""

from __future__ import annotations

import imaplib
import json
import smtplib
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import installed
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

USER1, _ = installed.USERS
MESSAGE = (
    "From: Offers <offers@shop.test>\r\nTo: user1@office.test\r\nSubject: Gardening webinar {0}\r\n"
    "Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <webinar{0}@shop.test>\r\n\r\n"
    "Our synergy webinar on blockchain gardening starts soon, seats for edition {0} are few.\r\n"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    settings = ['dns.nameservers=["127.0.0.1:9"]', "workers=2", "log.level=info"]
    made = installed.Installed(tmp_path_factory.mktemp("junk") / "m", settings=settings)
    made.add_users()
    (made.folder / "policy.toml").write_text('[[check]]\nplugin = "spamscore"\n\n[score]\njunk = 6\n')
    made.start()
    yield made
    made.stop()


def send(server: Any, number: int) -> None:
    with smtplib.SMTP("127.0.0.1", server.port(25), timeout=20) as client:
        client.sendmail("offers@shop.test", [USER1], MESSAGE.format(number))


def inbox(server: Any) -> imaplib.IMAP4_SSL:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    client = imaplib.IMAP4_SSL("127.0.0.1", server.port(993), ssl_context=context, timeout=20)
    client.login(USER1, installed.PASSWORD)
    client.select("INBOX")
    return client


def stats(server: Any) -> dict[str, Any]:
    rows = json.loads(server.run("junk", "stats", "--json").stdout)
    return rows[0] if rows else {"ham": 0, "spam": 0}


def wait_for(server: Any, **wanted: int) -> None:
    until = time.monotonic() + 20
    while (found := stats(server)) and any(found[key] != value for key, value in wanted.items()):
        assert time.monotonic() < until, found
        time.sleep(0.2)


def test_moves_and_marks_teach_the_running_server(server: Any, tmp_path: Path) -> None:
    for number in range(6):
        send(server, number)
    sample = tmp_path / "sample.eml"
    sample.write_text(MESSAGE.format(99))
    explain = ("junk", "explain", str(sample), "--account", USER1, "--json")
    before = json.loads(server.run(*explain).stdout)["points"]
    client = inbox(server)
    assert client.uid("MOVE", "1:4", "Junk")[0] == "OK"
    wait_for(server, spam=4, ham=0)
    taught = json.loads(server.run(*explain).stdout)["points"]
    assert taught > before + 1
    client.uid("STORE", "5", "+FLAGS", "($Junk)")
    wait_for(server, spam=5, ham=0)
    client.select("Junk")
    assert client.uid("MOVE", "1", "INBOX")[0] == "OK"
    wait_for(server, spam=4, ham=1)
    client.logout()


def test_the_header_says_what_the_filter_thought(server: Any) -> None:
    send(server, 7)
    client = inbox(server)
    _, found = client.search(None, "HEADER", "X-Mailguard-Spam", "points")
    assert found[0]
    client.logout()


def test_lost_models_are_learnt_anew_from_the_mail_in_the_mailboxes(server: Any) -> None:
    before = stats(server)
    (folder,) = server.folder.rglob("plugins/spamscore")
    model = folder / "account" / f"{USER1}.spam"
    server.stop()
    model.unlink()
    (folder / "global.spam").write_bytes(b"damaged")
    server.start()
    send(server, 8)  # a worker opens its filters with its first message at the latest
    until = time.monotonic() + 60
    while any(folder.rglob("*.old")) or not model.exists():
        assert time.monotonic() < until
        time.sleep(0.2)
    wait_for(server, ham=before["ham"], spam=before["spam"])
