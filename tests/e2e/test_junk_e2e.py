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
LETTER = (
    "From: Carol <carol@partner{0}.test>\r\nTo: user1@office.test\r\nSubject: Minutes {0}\r\n"
    "Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <minutes{0}@partner{0}.test>\r\n\r\n"
    "Hello, here are the minutes of meeting {0}: all points of the last round are settled. Carol\r\n"
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


def send(server: Any, number: int, text: str = MESSAGE) -> None:
    with smtplib.SMTP("127.0.0.1", server.port(25), timeout=20) as client:
        client.sendmail("offers@shop.test", [USER1], text.format(number))


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


def uid_of(client: imaplib.IMAP4_SSL, number: int) -> str:
    until = time.monotonic() + 20
    while not (found := client.uid("SEARCH", "SUBJECT", f'"Minutes {number}"')[1][0]):
        assert time.monotonic() < until
        client.noop()
    return str(found.decode())


def test_a_copy_that_is_expunged_and_the_mark_of_the_wanted_teach_once(server: Any) -> None:
    before = stats(server)
    client = inbox(server)
    for number in (20, 21):
        send(server, number, LETTER)
    copied, marked = (uid_of(client, number) for number in (20, 21))
    assert client.uid("COPY", copied, "Junk")[0] == "OK"
    wait_for(server, spam=before["spam"] + 1)
    client.uid("STORE", copied, "+FLAGS", "(\\Deleted)")
    client.expunge()
    client.uid("STORE", marked, "+FLAGS", "($NotJunk)")
    wait_for(server, spam=before["spam"] + 1, ham=before["ham"] + 1)
    client.uid("STORE", marked, "+FLAGS", "($Junk)")
    wait_for(server, spam=before["spam"] + 2, ham=before["ham"])
    client.uid("STORE", marked, "-FLAGS", "($Junk)")  # which says that it is wanted, after all
    wait_for(server, spam=before["spam"] + 1, ham=before["ham"] + 1)
    client.logout()


def test_a_server_killed_while_it_learns_goes_on_and_teaches_nothing_twice(server: Any) -> None:
    before = stats(server)["lessons"]
    client = inbox(server)
    numbers = range(30, 38)
    for number in numbers:
        send(server, number, LETTER)
    uids = ",".join(uid_of(client, number) for number in numbers)
    assert client.uid("MOVE", uids, "Junk")[0] == "OK"
    server.kill()
    client.shutdown()
    server.start()
    assert stats(server)["lessons"] <= before + len(numbers)
    (box,) = server.folder.rglob("user1/.Junk")
    server.run("junk", "train", "--spam", str(box))
    assert stats(server)["lessons"] == before + len(numbers)
    assert server.run("junk", "train", "--spam", str(box)).stdout.endswith(" already known\n")
    client = inbox(server)
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
