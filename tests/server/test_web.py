"""The set-up pages: every request in the shape its client sends it, and what must not be answered."""

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from werkzeug.test import Client

from mailguard.auth.accounts import Directory
from mailguard.auth.accountsfile import AccountsFile
from mailguard.net.listening import ListenerSettings
from mailguard.server.web import WebApplication
from mailguard.server.web_provider import providers
from mailguard.server.web_rate import RateLimit
from mailguard.server.web_settings import WebSettings
from mailguard.server.web_setup import SetupPages
from mailguard.testing import FakeClock

HTTPS = "https://mail.office.test"
POX = """<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006">
<Request><EMailAddress>{}</EMailAddress><AcceptableResponseSchema>{}</AcceptableResponseSchema></Request></Autodiscover>"""
OUTLOOK = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"


def make_pages(folder: Path, **settings: object) -> SetupPages:
    file = AccountsFile.model_validate(
        {
            "domain": [{"name": "office.test", "aliases": ["alias.test"]}, {"name": "customer.test"}],
            "account": [{"address": "ann@office.test"}],
        }
    )
    listeners = [
        ListenerSettings.model_validate({"kind": kind})
        for kind in ("smtp", "submissions", "submission", "imaps", "imap", "pop3s", "http", "https")
    ]
    web = WebSettings.model_validate(settings)
    known = providers("mail.office.test", listeners, Directory.build(file, folder), web)
    return SetupPages(web, "mail.office.test", known, folder / "challenges", metrics=lambda: b"up 1\n", now=FakeClock())


@pytest.fixture
def pages(tmp_path: Path) -> SetupPages:
    return make_pages(tmp_path, burst=1000)


def application(pages: SetupPages) -> WebApplication:
    return WebApplication(pages, RateLimit(pages.settings.rate, pages.settings.burst, pages.now))


def ask(pages: SetupPages, path: str, *, host: str = HTTPS, body: str | None = None, **more: object):  # type: ignore[no-untyped-def]
    client = Client(application(pages))
    more.setdefault("environ_base", {"REMOTE_ADDR": "127.0.0.1"})
    if body is None:
        return client.get(path, base_url=host, **more)
    return client.post(path, base_url=host, data=body, content_type="text/xml; charset=utf-8", **more)


@pytest.mark.parametrize(
    ("host", "path", "domain"),
    [
        ("https://autoconfig.office.test", "/mail/config-v1.1.xml?emailaddress=ann%40office.test", "office.test"),
        ("http://autoconfig.office.test", "/mail/config-v1.1.xml?emailaddress=no.such%40office.test", "office.test"),
        ("https://office.test", "/.well-known/autoconfig/mail/config-v1.1.xml", "office.test"),
        ("http://autoconfig.office.test:8080", "/mail/config-v1.1.xml", "office.test"),
        ("https://autoconfig.office.test", "/mail/config-v1.1.xml?emailaddress=a+b@customer.test", "customer.test"),
        ("https://autoconfig.office.test", "/mail/config-v1.1.xml?emailaddress=a@ALIAS.test", "alias.test"),
        (HTTPS, "/mail/config-v1.1.xml", "office.test"),
    ],
)
def test_mozilla(pages: SetupPages, host: str, path: str, domain: str) -> None:
    got = ask(pages, path, host=host)
    assert (got.status_code, got.headers["Content-Type"]) == (200, "text/xml; charset=utf-8")
    assert ET.fromstring(got.data).findtext("emailProvider/domain") == domain


@pytest.mark.parametrize(
    ("host", "path"),
    [
        ("https://autoconfig.office.test", "/mail/config-v1.1.xml?emailaddress=ann%40elsewhere.test"),
        ("https://autoconfig.elsewhere.test", "/mail/config-v1.1.xml"),
        ("https://autoconfig.office.test", "/mail/config-v1.1.xml?emailaddress=nonsense"),
        ("https://office.test", "/autodiscover/autodiscover.svc"),
        ("https://office.test", "/EWS/Exchange.asmx"),
        ("https://office.test", "/Microsoft-Server-ActiveSync"),
        ("https://elsewhere.test", "/autodiscover/autodiscover.json?Email=a@elsewhere.test&Protocol=AutodiscoverV1"),
        ("https://office.test", "/.well-known/mta-sts.txt"),
        ("https://office.test", "/.well-known/user-agent-configuration.json"),
        ("https://elsewhere.test", "/"),
    ],
)
def test_unknown_is_an_empty_404(pages: SetupPages, host: str, path: str) -> None:
    got = ask(pages, path, host=host)
    assert (got.status_code, got.data) == (404, b"")


@pytest.mark.parametrize(
    "path",
    ["/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml", "/AutoDiscover/AutoDiscover.xml"],
)
def test_autodiscover(pages: SetupPages, path: str) -> None:
    got = ask(pages, path, host="https://autodiscover.office.test", body=POX.format("no.such@office.test", OUTLOOK))
    assert got.status_code == 200
    assert ET.fromstring(got.data).findtext(f".//{{{OUTLOOK}}}LoginName") == "no.such@office.test"
    other = ask(pages, path, body=POX.format("a@elsewhere.test", OUTLOOK))
    assert (other.status_code, other.data) == (404, b"")


def test_autodiscover_errors_come_with_200_and_never_401(pages: SetupPages) -> None:
    path = "/autodiscover/autodiscover.xml"
    mobile = POX.format(
        "a@office.test", "http://schemas.microsoft.com/exchange/autodiscover/mobilesync/responseschema/2006"
    )
    for body, code in ((None, b"<ErrorCode>600<"), ("<a/>", b"<ErrorCode>600<"), (mobile, b"<ErrorCode>601<")):
        got = ask(pages, path, body=body)
        assert got.status_code == 200 and code in got.data


def test_autodiscover_in_the_clear_is_sent_to_our_own_name(pages: SetupPages) -> None:
    got = ask(pages, "/autodiscover/autodiscover.xml", host="http://evil.test")
    assert (got.status_code, got.headers["Location"]) == (302, f"{HTTPS}/autodiscover/autodiscover.xml")


def test_json(pages: SetupPages) -> None:
    good = ask(pages, "/Autodiscover/autodiscover.json?Email=a@office.test&protocol=autodiscoverv1&RedirectCount=1")
    assert json.loads(good.data)["Url"] == f"{HTTPS}/autodiscover/autodiscover.xml"
    by_path = ask(pages, "/autodiscover/autodiscover.json/v1.0/a%40office.test?Protocol=EWS")
    assert by_path.status_code == 400
    assert json.loads(by_path.data)["ErrorCode"] == "InvalidProtocol"


def test_mta_sts_security_and_pacc(tmp_path: Path) -> None:
    pages = make_pages(tmp_path, burst=1000, pacc=True, mta_sts="enforce")
    sts = ask(pages, "/.well-known/mta-sts.txt", host="https://mta-sts.office.test")
    assert sts.data.decode().split() == [
        "version:", "STSv1", "mode:", "enforce", "mx:", "mail.office.test", "max_age:", "604800"]  # fmt: skip
    assert ask(pages, "/.well-known/mta-sts.txt", host="http://mta-sts.office.test").status_code == 404
    assert b"postmaster@office.test" in ask(pages, "/.well-known/security.txt", host="https://office.test").data
    document = ask(pages, "/.well-known/user-agent-configuration.json", host="https://ua-auto-config.office.test")
    assert document.data == pages.pacc["office.test"]


def test_acme_challenges_are_files_of_one_folder(pages: SetupPages, tmp_path: Path) -> None:
    pages.challenges.mkdir()
    (pages.challenges / "tok_en-1").write_bytes(b"tok_en-1.thumb")
    (tmp_path / "secret").write_bytes(b"x")
    path = "/.well-known/acme-challenge/"
    assert ask(pages, path + "tok_en-1", host="http://office.test").data == b"tok_en-1.thumb"
    for token in ("missing", "..%2fsecret", "%2e%2e", "."):
        assert ask(pages, path + token).status_code == 404


def test_health_and_metrics(tmp_path: Path) -> None:
    pages = make_pages(tmp_path)
    assert ask(pages, "/healthz").data == b"ok\n"
    assert ask(pages, "/metrics").data == b"up 1\n"
    far = {"REMOTE_ADDR": "192.0.2.1"}
    assert ask(pages, "/metrics", environ_base=far).status_code == 404
    guarded = make_pages(tmp_path, metrics_token="t0ken")
    assert ask(guarded, "/metrics").status_code == 404
    headers = {"Authorization": "Bearer t0ken"}
    assert ask(guarded, "/metrics", environ_base=far, headers=headers).status_code == 200


def test_health_tells_strangers_no_more_than_that_it_is_bad(tmp_path: Path) -> None:
    pages = dataclasses.replace(make_pages(tmp_path), troubles=lambda: ["the disk is full"])
    near, far = ask(pages, "/healthz"), ask(pages, "/healthz", environ_base={"REMOTE_ADDR": "192.0.2.1"})
    assert (near.status_code, near.data) == (503, b"the disk is full\n")
    assert (far.status_code, far.data) == (503, b"not ready\n")


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "TRACE", "PROPFIND"])
def test_other_methods(pages: SetupPages, method: str) -> None:
    got = Client(application(pages)).open("/mail/config-v1.1.xml", base_url=HTTPS, method=method)
    assert (got.status_code, got.data) == (405, b"")


def test_head_is_get_without_the_body(pages: SetupPages) -> None:
    client = Client(application(pages))
    head = client.head("/mail/config-v1.1.xml", base_url=HTTPS)
    assert (head.status_code, head.data) == (200, b"")
    assert int(head.headers["Content-Length"]) == len(ask(pages, "/mail/config-v1.1.xml").data)


def test_a_long_line_is_refused(pages: SetupPages) -> None:
    assert ask(pages, "/mail/config-v1.1.xml?emailaddress=" + "a" * 4096).status_code == 414


def test_answers_are_small_and_say_how_long_they_hold(pages: SetupPages) -> None:
    got = ask(pages, "/mail/config-v1.1.xml")
    assert len(got.data) < 4096
    assert got.headers["Cache-Control"] == "max-age=3600"


def test_no_answer_depends_on_the_user(pages: SetupPages) -> None:
    for path in ("/mail/config-v1.1.xml?emailaddress={}", "/autodiscover/autodiscover.json?Email={}&Protocol=EWS"):
        there, absent = (ask(pages, path.format(user)) for user in ("ann%40office.test", "bob%40office.test"))
        assert (there.status_code, there.data) == (absent.status_code, absent.data)


def test_a_proxy_is_believed_where_it_is_ours(tmp_path: Path) -> None:
    pages = make_pages(tmp_path, proxies=["192.0.2.0/24"])
    headers = {"X-Forwarded-For": "198.51.100.9, 203.0.113.5", "X-Forwarded-Proto": "https"}
    path, host = "/.well-known/mta-sts.txt", "http://mta-sts.office.test"
    ours = ask(pages, path, host=host, headers=headers, environ_base={"REMOTE_ADDR": "192.0.2.7"})
    other = ask(pages, path, host=host, headers=headers, environ_base={"REMOTE_ADDR": "198.51.100.7"})
    assert (ours.status_code, other.status_code) == (200, 404)
    told = {"X-Forwarded-For": "127.0.0.1"}
    assert ask(pages, "/metrics", headers=told, environ_base={"REMOTE_ADDR": "198.51.100.7"}).status_code == 404


def test_a_network_that_wastes_threads_is_not_listened_to() -> None:
    clock = FakeClock()
    limit = RateLimit(30, 60, clock)
    for _ in range(7):
        limit.charge("192.0.2.1", 10)
    assert limit.owes("192.0.2.1") and not limit.allow("192.0.2.1")
    assert not limit.owes("192.0.2.2")
    clock.tick(25)
    assert not limit.owes("192.0.2.1") and limit.allow("192.0.2.1")


def test_help_page(pages: SetupPages) -> None:
    got = ask(pages, "/help/customer.test")
    assert got.status_code == 200
    for text in ("mail.office.test", "993", "465", "SSL/TLS", "you@customer.test"):
        assert text in got.text
    assert "default-src 'none'" in got.headers["Content-Security-Policy"]
    assert "<script" not in got.text


def test_a_limit_is_shared_out_to_the_workers() -> None:
    clock = FakeClock(0)
    for workers, at_once in ((1, 60), (2, 30), (8, 20)):
        limit = RateLimit.share(30, 60, clock, workers=workers)
        assert [limit.allow("192.0.2.1") for _ in range(at_once + 1)] == [True] * at_once + [False]
    few = RateLimit.share(30, 5, clock, workers=8)
    assert [few.allow("192.0.2.1") for _ in range(6)] == [True] * 5 + [False]


def test_rate_limit_by_network(tmp_path: Path) -> None:
    pages = make_pages(tmp_path, rate=30, burst=3)
    app = application(pages)
    clock = pages.now

    def status(ip: str) -> int:
        environ = {"REMOTE_ADDR": ip}
        return Client(app).get("/mail/config-v1.1.xml", base_url=HTTPS, environ_base=environ).status_code

    assert [status("2001:db8::1"), status("2001:db8::2"), status("2001:db8::3"), status("2001:db8::4")] == [
        200, 200, 200, 429]  # fmt: skip
    assert status("2001:db8:0:1::1") == 200
    assert isinstance(clock, FakeClock)
    clock.tick(2.5)
    assert status("2001:db8::4") == 200
