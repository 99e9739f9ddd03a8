"""The set-up pages: every request in the shape its client sends it, and what must not be answered."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import urllib.error
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from mailguard.auth.accounts import Directory
from mailguard.auth.accountsfile import AccountsFile
from mailguard.net.listening import ListenerSettings
from mailguard.net.selfsigned import make_self_signed
from mailguard.net.tls import TlsContexts, TlsSettings
from mailguard.server.web import WebPages, application
from mailguard.server.web_serve import http_server
from mailguard.server.web_settings import WebSettings, providers
from mailguard.testing import FakeClock

HTTPS = "https://mail.office.test"
POX = """<Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/requestschema/2006">
<Request><EMailAddress>{}</EMailAddress><AcceptableResponseSchema>{}</AcceptableResponseSchema></Request></Autodiscover>"""
OUTLOOK = "http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"


def make_pages(folder: Path, **settings: object) -> WebPages:
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
    return WebPages(web, "mail.office.test", known, folder / "challenges", metrics=lambda: b"up 1\n", now=FakeClock())


@pytest.fixture
def pages(tmp_path: Path) -> WebPages:
    return make_pages(tmp_path, burst=1000)


def ask(pages: WebPages, path: str, *, host: str = HTTPS, body: str | None = None, **more: object):  # type: ignore[no-untyped-def]
    client = application(pages).test_client()
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
def test_mozilla(pages: WebPages, host: str, path: str, domain: str) -> None:
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
def test_unknown_is_an_empty_404(pages: WebPages, host: str, path: str) -> None:
    got = ask(pages, path, host=host)
    assert (got.status_code, got.data) == (404, b"")


@pytest.mark.parametrize(
    "path",
    ["/autodiscover/autodiscover.xml", "/Autodiscover/Autodiscover.xml", "/AutoDiscover/AutoDiscover.xml"],
)
def test_autodiscover(pages: WebPages, path: str) -> None:
    got = ask(pages, path, host="https://autodiscover.office.test", body=POX.format("no.such@office.test", OUTLOOK))
    assert got.status_code == 200
    assert ET.fromstring(got.data).findtext(f".//{{{OUTLOOK}}}LoginName") == "no.such@office.test"
    other = ask(pages, path, body=POX.format("a@elsewhere.test", OUTLOOK))
    assert (other.status_code, other.data) == (404, b"")


def test_autodiscover_errors_come_with_200_and_never_401(pages: WebPages) -> None:
    path = "/autodiscover/autodiscover.xml"
    mobile = POX.format(
        "a@office.test", "http://schemas.microsoft.com/exchange/autodiscover/mobilesync/responseschema/2006"
    )
    for body, code in ((None, b"<ErrorCode>600<"), ("<a/>", b"<ErrorCode>600<"), (mobile, b"<ErrorCode>601<")):
        got = ask(pages, path, body=body)
        assert got.status_code == 200 and code in got.data


def test_autodiscover_in_the_clear_is_sent_to_our_own_name(pages: WebPages) -> None:
    got = ask(pages, "/autodiscover/autodiscover.xml", host="http://evil.test")
    assert (got.status_code, got.headers["Location"]) == (302, f"{HTTPS}/autodiscover/autodiscover.xml")


def test_json(pages: WebPages) -> None:
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


def test_acme_challenges_are_files_of_one_folder(pages: WebPages, tmp_path: Path) -> None:
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


def test_help_page(pages: WebPages) -> None:
    got = ask(pages, "/help/customer.test")
    assert got.status_code == 200
    for text in ("mail.office.test", "993", "465", "SSL/TLS", "you@customer.test"):
        assert text in got.text
    assert "default-src 'none'" in got.headers["Content-Security-Policy"]
    assert "<script" not in got.text


def test_rate_limit_by_network(tmp_path: Path) -> None:
    pages = make_pages(tmp_path, rate=30, burst=3)
    app = application(pages)
    clock = pages.now

    def status(ip: str) -> int:
        environ = {"REMOTE_ADDR": ip}
        return app.test_client().get("/mail/config-v1.1.xml", base_url=HTTPS, environ_base=environ).status_code

    assert [status("2001:db8::1"), status("2001:db8::2"), status("2001:db8::3"), status("2001:db8::4")] == [
        200, 200, 200, 429]  # fmt: skip
    assert status("2001:db8:0:1::1") == 200
    assert isinstance(clock, FakeClock)
    clock.tick(2.5)
    assert status("2001:db8::4") == 200


@pytest.fixture
def served(pages: WebPages, tmp_path: Path) -> Iterator[int]:
    make_self_signed(["localhost"], tmp_path / "c.pem", tmp_path / "k.pem")
    tls = TlsContexts(TlsSettings(certificate=Path("c.pem"), key=Path("k.pem")), tmp_path)
    sock = socket.create_server(("127.0.0.1", 0))
    server = http_server(sock, application(pages), tls=tls, threads=4, log=structlog.get_logger())
    server.prepare()
    thread = threading.Thread(target=server.serve)
    thread.start()
    yield sock.getsockname()[1]
    server.stop()
    thread.join()


def test_over_https_beside_a_client_that_never_shakes_hands(served: int, tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=str(tmp_path / "c.pem"))
    with socket.create_connection(("127.0.0.1", served)) as idle:
        idle.sendall(b"\x16")
        request = urllib.request.Request(
            f"https://localhost:{served}/mail/config-v1.1.xml", headers={"Host": "autoconfig.office.test"}
        )
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:
            assert answer.status == 200
            assert b"clientConfig" in answer.read()


def test_a_body_over_the_bound_is_refused(served: int, tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=str(tmp_path / "c.pem"))
    request = urllib.request.Request(f"https://localhost:{served}/autodiscover/autodiscover.xml", b"x" * 9000)
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(request, context=context, timeout=10)
    assert error.value.code == 413
    error.value.close()
