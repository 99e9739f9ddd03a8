"""Mail in over SMTP, checked, kept in a Maildir, told of, and fetched over POP3 by real clients."""

from __future__ import annotations

import contextlib
import poplib
import shutil
import smtplib
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import installed
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

USER1, USER2 = installed.USERS
MESSAGE = "From: Ann <ann@example.net>\r\nTo: user1@office.test\r\nSubject: {}\r\n\r\n.dots and text\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    # A resolver that answers nothing at once: no question of these tests leaves the machine.
    made = installed.Installed(tmp_path_factory.mktemp("office") / "m", settings=['dns.nameservers=["127.0.0.1:9"]'])
    made.add_users()
    made.start()
    yield made
    made.stop()


def unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def files(server: Any, user: str, folder: str = "") -> list[Path]:
    root = server.folder / "data/mail/office.test" / user.partition("@")[0] / folder
    return [path for name in ("new", "cur") for path in (root / name).iterdir()]


def maildrop(server: Any, user: str) -> poplib.POP3_SSL:
    pop = poplib.POP3_SSL("127.0.0.1", server.port(995), context=unchecked(), timeout=20)
    pop.user(user)
    pop.pass_(installed.PASSWORD)
    return pop


def test_mail_arrives_is_explained_and_is_fetched(server: Any) -> None:
    with smtplib.SMTP("127.0.0.1", server.port(25), timeout=20) as client:
        client.starttls(context=unchecked())
        client.sendmail("ann@example.net", [USER1], MESSAGE.format("one"))
    pop = maildrop(server, USER1)
    count, _ = pop.stat()
    raw = b"\r\n".join(pop.retr(count)[1])
    pop.dele(count)
    pop.quit()
    head, _, body = raw.partition(b"\r\n\r\n")
    assert body == b".dots and text"
    assert head.startswith(
        b"Return-Path: <ann@example.net>\r\nDelivered-To: user1@office.test\r\nAuthentication-Results:"
    )
    id = head.split(b"X-Mailguard: id=")[1].split(b";")[0].decode()
    told = server.run("why", id).stdout
    assert "from ann@example.net to user1@office.test" in told
    assert "user1@office.test/INBOX" in told
    assert files(server, USER1) == []


def test_several_recipients_share_one_file(server: Any) -> None:
    with smtplib.SMTP("127.0.0.1", server.port(25), timeout=20) as client:
        client.sendmail("ann@example.net", [USER1, USER2], MESSAGE.format("two"))
    (first,), (second,) = files(server, USER1), files(server, USER2)
    assert first.samefile(second)
    assert b"Delivered-To" not in first.read_bytes()
    for path in (first, second):
        path.unlink()


def test_refusals_say_why_and_what_to_do(server: Any) -> None:
    with smtplib.SMTP("127.0.0.1", server.port(25), timeout=20) as client:
        with pytest.raises(smtplib.SMTPRecipientsRefused, match=r"no mailbox nobody@office.test"):
            client.sendmail("ann@example.net", ["nobody@office.test"], "x")
        with pytest.raises(smtplib.SMTPRecipientsRefused, match=r"do not relay to elsewhere.test"):
            client.sendmail("ann@example.net", ["bob@elsewhere.test"], "x")
    with smtplib.SMTP_SSL("127.0.0.1", server.port(465), context=unchecked(), timeout=20) as client:
        client.login(USER1, installed.PASSWORD)
        with pytest.raises(smtplib.SMTPSenderRefused, match=r"may not send as boss@office.test.*send_as"):
            client.sendmail("boss@office.test", [USER2], "x")


def test_mail_for_other_domains_waits_in_the_queue(server: Any) -> None:
    with smtplib.SMTP("127.0.0.1", server.port(587), timeout=20) as client:
        client.starttls(context=unchecked())
        client.login(USER1, installed.PASSWORD)
        with pytest.raises(smtplib.SMTPDataError, match=r"may not send as ann@example.net.*send_as"):
            client.sendmail(USER1, ["bob@elsewhere.test"], MESSAGE.format("forged"))
        client.sendmail(USER1, ["bob@elsewhere.test"], MESSAGE.replace("ann@example.net", USER1).format("out"))
    listed = server.run("queue", "--config", str(server.config), "list", "--json", config=False).stdout
    assert "bob@elsewhere.test" in listed


def test_set_up_requests_are_answered(server: Any) -> None:
    for path in (
        "/mail/config-v1.1.xml?emailaddress=user1%40office.test",
        "/.well-known/autoconfig/mail/config-v1.1.xml",
    ):
        request = urllib.request.Request(f"http://127.0.0.1:{server.port(80)}{path}", headers={"Host": "office.test"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.headers["Content-Type"].startswith(("text/xml", "application/xml"))
            text = answer.read().decode()
        assert "<domain>office.test</domain>" in text
        assert f"<port>{server.port(465)}</port>" in text
    url = f"http://127.0.0.1:{server.port(80)}/mail/config-v1.1.xml?emailaddress=a%40elsewhere.test"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, timeout=20)
    with refused.value:
        assert (refused.value.code, refused.value.read()) == (404, b"")
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port(80)}/healthz", timeout=20) as answer:
        assert answer.status == 200


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not installed")
@pytest.mark.parametrize(
    "how", [["-tls", "-p", "587", "--auth", "PLAIN"], ["-tlsc", "-p", "465", "--auth", "LOGIN"]], ids=["587", "465"]
)
def test_swaks_submits(server: Any, how: list[str]) -> None:
    arguments = [str(server.port(int(word))) if word in ("587", "465") else word for word in how]
    command = ["swaks", "--to", USER2, "--from", USER1, "--server", "127.0.0.1", *arguments]
    command += ["--auth-user", USER1, "--auth-password", installed.PASSWORD]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    assert "250 2.0.0 taken as" in done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_lists_the_maildrop(server: Any) -> None:
    url = f"pop3s://127.0.0.1:{server.port(995)}/"
    command = ["curl", "-sk", url, "-u", f"{USER2}:{installed.PASSWORD}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_nothing_acknowledged_is_lost_when_everything_is_killed(tmp_path: Path) -> None:
    made = installed.Installed(tmp_path / "m", settings=['dns.nameservers=["127.0.0.1:9"]'])
    made.add_users()
    made.start()
    taken: list[str] = []
    enough = threading.Event()

    def send(session: int) -> None:
        with contextlib.suppress(OSError, smtplib.SMTPException), smtplib.SMTP("127.0.0.1", made.port(25)) as client:
            for n in range(1000):
                client.sendmail("ann@example.net", [USER1], MESSAGE.format(f"s{session}-{n}-end"))
                taken.append(f"s{session}-{n}-end")
                if len(taken) > 100:
                    enough.set()

    threads = [threading.Thread(target=send, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    assert enough.wait(60)
    made.kill()
    for thread in threads:
        thread.join(30)
    made.start()
    try:
        kept = b"".join(path.read_bytes() for path in files(made, USER1))
        assert [subject for subject in taken if subject.encode() not in kept] == []
        pop = maildrop(made, USER1)
        assert pop.stat()[0] == len(files(made, USER1)) >= len(taken)
        pop.quit()
    finally:
        made.stop()
