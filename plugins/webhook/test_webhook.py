"""The webhook check, against a real web server: what it is told, what its answers do."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import mailguard_webhook
from mailguard.plugin import Delivered, Finding
from mailguard.testing import Harness, make_message, run_check


class Service:
    """A web service that gives this answer."""

    def __init__(self) -> None:
        self.answer: bytes = b"{}"
        self.status = 200
        self.got: list[tuple[Any, bytes]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.got.append((self.headers, body))
                self.send_response(service.status)
                self.send_header("Content-Length", str(len(service.answer)))
                self.end_headers()
                self.wfile.write(service.answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?x=1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.stop()


def check(service: Service, answer: object, **options: Any) -> Finding | None:
    service.answer = json.dumps(answer).encode() if answer is not None else b""
    findings = {"spf": Finding("pass", "it may")}
    return run_check(mailguard_webhook, options={"url": service.url, **options}, findings=findings)


def test_an_answer_becomes_a_finding(service: Service) -> None:
    answer = {"word": "suspect", "reason": "unknown supplier", "points": 1.5, "facts": {"supplier": None}}
    finding = check(service, answer)
    assert finding is not None
    assert (finding.word, finding.reason, finding.points) == ("suspect", "unknown supplier", 1.5)
    told = json.loads(service.got[0][1])
    assert (told["mail_from"], told["rcpt"]) == ("alice@example.net", ["bob@example.org"])
    assert told["client"] == {"ip": "192.0.2.1", "ptr": "", "helo": "mail.example.net", "tls": False}
    assert ["Subject", "Hello"] in told["header"]
    assert told["findings"] == {"spf": {"word": "pass", "reason": "it may", "points": 0.0}}
    assert "message" not in told


def test_nothing_to_say(service: Service) -> None:
    service.status = 204
    assert check(service, None) is None


def test_the_whole_message_if_wanted(service: Service) -> None:
    check(service, {}, message=True)
    assert base64.b64decode(json.loads(service.got[0][1])["message"]) == bytes(make_message())
    check(service, {}, message=True, max_size=10)
    assert "message" not in json.loads(service.got[1][1])


def test_requests_are_signed(service: Service) -> None:
    check(service, {}, secret="sesame")
    headers, body = service.got[0]
    assert headers["X-Mailguard-Signature"] == "sha256=" + hmac.new(b"sesame", body, hashlib.sha256).hexdigest()


def test_events(service: Service) -> None:
    options = {"url": service.url, "events": ["Delivered"], "ask": False}
    with Harness(mailguard_webhook, options=options) as harness:
        assert harness.check() is None
        harness.observe(Delivered(1.0, "M", "ann@example.org", "ann@example.org/INBOX"))
    told = json.loads(service.got[0][1])
    assert (told["event"], told["where"]) == ("Delivered", "ann@example.org/INBOX")


@pytest.mark.parametrize("answer", [[], "bad", {"reason": "no word"}, {"word": 3}, {"word": "ok", "facts": []}])
def test_nonsense_is_an_error(service: Service, answer: object) -> None:
    with pytest.raises(ValueError):
        check(service, answer)


def test_an_unknown_word_is_an_error(service: Service) -> None:
    with pytest.raises(AssertionError, match="not among its words"):
        check(service, {"word": "perhaps"})


@pytest.mark.parametrize("status", [301, 404, 500])
def test_other_answers_are_errors(service: Service, status: int) -> None:
    service.status = status
    with pytest.raises(OSError, match=str(status)):
        check(service, {"word": "ok"})


def test_certificates_are_checked(service: Service, tmp_path: Path) -> None:
    url = service.url.replace("http:", "https:")
    with pytest.raises(ssl.SSLError):
        run_check(mailguard_webhook, options={"url": url})


def test_a_wrong_url_is_told() -> None:
    with pytest.raises(ValueError, match="no http or https address"):
        run_check(mailguard_webhook, options={"url": "ftp://example.net"})
