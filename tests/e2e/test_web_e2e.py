"""Set-up requests to a running server, over HTTP and HTTPS, before and after a reload."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import smtplib
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import installed
import pytest

from mailguard.net.selfsigned import make_self_signed

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with serving(tmp_path_factory.mktemp("web") / "m") as made:
        yield made


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Any]:
    made = installed.Installed(folder, settings=['dns.nameservers=["127.0.0.1:9"]'])
    made.add_users()
    made.start()
    yield made
    assert made.stop() == 0


def get(server: Any, path: str, host: str, *, https: bool = True) -> tuple[int, bytes]:
    scheme, port = ("https", server.port(443)) if https else ("http", server.port(80))
    context = ssl.create_default_context(cafile=str(server.folder / "tls/certificate.pem"))
    context.check_hostname = False
    request = urllib.request.Request(f"{scheme}://127.0.0.1:{port}{path}", headers={"Host": host})
    try:
        with urllib.request.urlopen(request, context=context if https else None, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_set_up_names_the_ports_that_are_served(server: Any) -> None:
    for https in (True, False):
        status, body = get(server, "/mail/config-v1.1.xml", "autoconfig.office.test", https=https)
        assert status == 200
        assert f"<port>{server.port(993)}</port>".encode() in body
    assert get(server, "/healthz", "x") == (200, b"ok\n")
    assert get(server, "/mail/config-v1.1.xml", "autoconfig.elsewhere.test") == (404, b"")


def test_a_new_domain_is_known_after_a_reload(server: Any) -> None:
    assert get(server, "/mail/config-v1.1.xml", "new.test")[0] == 404
    accounts = server.folder / "accounts.toml"
    accounts.write_text(accounts.read_text() + '\n[[domain]]\nname = "new.test"\n')
    server.signal(signal.SIGHUP)
    for _ in server.workers():
        server.wait_for("reloaded")
    assert get(server, "/mail/config-v1.1.xml", "new.test")[0] == 200


def test_a_certificate_replaced_after_that_reload_is_shown(server: Any) -> None:
    folder = server.folder / "tls"
    make_self_signed(["autoconfig.new.test"], folder / "certificate.pem", folder / "key.pem")
    for _ in server.workers():
        server.wait_for("certificates reloaded")
    assert get(server, "/healthz", "new.test")[0] == 200  # trusts the new one alone


class Browser:
    """Just enough of one: a cookie and the token of the last form."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.cookies: dict[str, str] = {}
        self.token = ""

    def ask(self, path: str, **fields: str) -> str:
        context = ssl.create_default_context(cafile=str(self.server.folder / "tls/certificate.pem"))
        client = http.client.HTTPSConnection("localhost", self.server.port(443), context=context, timeout=20)
        context.check_hostname = False
        headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())}
        body = urllib.parse.urlencode({"form_token": self.token, **fields}) if fields else None
        headers |= {"Content-Type": "application/x-www-form-urlencoded"} if body else {}
        with contextlib.closing(client):
            client.request("POST" if body else "GET", path, body, headers)
            with client.getresponse() as answer:
                page = answer.read().decode()
                for name, value in answer.headers.items():
                    if name.lower() == "set-cookie":
                        key, _, rest = value.partition("=")
                        self.cookies[key] = rest.partition(";")[0]
        if found := re.search(r'name="form_token" value="([^"]+)"', page):
            self.token = found[1]
        assert answer.status in (200, 303), page
        return self.ask(answer.headers["Location"]) if answer.status == 303 else page


def arrived(server: Any, user: str, text: bytes) -> bytes:
    """The new message of this user that holds this text, once it is there."""
    for _ in range(300):
        for path in (server.folder / "data/mail/office.test" / user).rglob("new/*"):
            if text in (raw := path.read_bytes()):
                return raw
        time.sleep(0.1)
    raise AssertionError("\n".join([f"{text!r} does not come", *server.log]))


def test_an_answer_while_away_and_a_forward_between_our_own(server: Any) -> None:
    browser = Browser(server)
    browser.ask("/account/sign-in")
    page = browser.ask("/account/sign-in", user="user1@office.test", password=installed.PASSWORD)
    assert "user1@office.test" in page
    assert "Your reply is on" in browser.ask("/account/away", action="on", text="Back on Monday")
    assert "Your mail is sent on" in browser.ask("/account/forwarding", targets="user2@office.test", keep="1")
    with smtplib.SMTP("127.0.0.1", server.port(25)) as client:
        client.sendmail(
            "bea@elsewhere.test", ["user1@office.test"], "To: user1@office.test\r\nSubject: s-1\r\n\r\nx\r\n"
        )
    server.wait_for("forwarded")
    assert "to=bea@elsewhere.test" in server.wait_for("out-of-office reply")
    sent_on = arrived(server, "user2", b"Subject: s-1\r\n")
    assert b"Delivered-To: user1@office.test\r\n" in sent_on and b"Return-Path: <SRS0=" in sent_on
    arrived(server, "user1", b"Subject: Your mail is being forwarded\r\n")
    assert len(list((server.folder / "data/mail/office.test/user2").rglob("new/*"))) == 1  # the letter stays
    pages = (browser.ask("/account/activity") for _ in range(100))  # sign-ins are written a moment later
    assert any("This page" in page or time.sleep(0.1) for page in pages)
    assert browser.ask("/account/sign-out", x="1")


def metric(server: Any, line: str) -> float:
    """The value of a metric, as the whole server has it."""
    status, body = get(server, "/metrics", "x")
    assert status == 200
    found = re.search(rf"^{re.escape(line)} ([0-9.e+]+)$", body.decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_metrics_count_what_happens_in_every_worker(tmp_path: Path) -> None:
    accepted = 'mailguard_messages_accepted_total{direction="in"}'
    with serving(tmp_path / "m") as server:
        for number in range(6):
            with smtplib.SMTP("127.0.0.1", server.port(25)) as client:
                client.sendmail("bea@elsewhere.test", ["user2@office.test"], f"Subject: m-{number}\r\n\r\nx\r\n")
        until = time.monotonic() + 20
        while metric(server, accepted) < 6:
            assert time.monotonic() < until
            time.sleep(0.2)
        assert metric(server, accepted) == 6
        assert metric(server, "mailguard_workers") == len(server.workers())


def test_metrics_name_sign_ins_pages_and_the_queue_runner(server: Any) -> None:
    assert metric(server, 'mailguard_sign_ins_total{protocol="web",result="ok"}') >= 1
    assert metric(server, 'mailguard_web_answers_total{page="/mail/config-v1.1.xml",status="200"}') >= 1
    assert metric(server, "mailguard_queue_runner_seen_seconds") < 10


def test_the_queue_runner_is_seen_at_work(server: Any) -> None:
    beat = server.folder / "data/runner.beat"
    assert time.time() - beat.stat().st_mtime < 10
    assert get(server, "/healthz", "x") == (200, b"ok\n")


def test_dns_show(server: Any) -> None:
    done = server.run("dns", "show", "office.test", "--format", "json", "--address", "192.0.2.1")
    assert any(r["data"].endswith(f"{server.port(993)} mail.office.test") for r in json.loads(done.stdout))
