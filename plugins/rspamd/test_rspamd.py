"""The rspamd check, against a real rspamd that knows nothing but the test pattern."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mailguard_rspamd
from mailguard.plugin import Finding, Moved
from mailguard.testing import Harness, Program, free_port, make_message, make_session, need, run_check

GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
CONFIG = """
options {{ pidfile = "{folder}/pid"; tempdir = "{folder}"; url_tld = "{folder}/tld"; disable_hyperscan = true;
  dns {{ nameserver = "127.0.0.1:1"; timeout = 0.1s; }} }}
logging {{ type = "console"; level = "info"; }}
actions {{ reject = 15; add_header = 6; greylist = 4; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
worker "controller" {{ bind_socket = "127.0.0.1:{controller}"; count = 1; secure_ip = []; password = "sesame"; }}
"""


@pytest.fixture(scope="module")
def rspamd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    program, folder = need("rspamd"), tmp_path_factory.mktemp("rspamd")
    port, controller = free_port(), free_port()
    config = folder / "rspamd.conf"
    (folder / "tld").write_text("com\nexample\nnet\n")  # the full list takes half a minute to compile
    config.write_text(CONFIG.format(folder=folder, port=port, controller=controller))
    places = f"127.0.0.1:{port}", f"127.0.0.1:{controller}"
    variables = [f"--var={name}={folder}" for name in ("DBDIR", "RUNDIR", "LOGDIR")]
    command = [program, "--no-fork", "--insecure", "--config", str(config), *variables]
    with Program(command, places[0], folder=folder):
        yield places


def check(place: str, body: str, **options: Any) -> Finding:
    session = make_session(helo="mail.example.net")
    finding = run_check(
        mailguard_rspamd, session=session, message=make_message(body), options={"address": place, **options}
    )
    assert finding is not None
    return finding


@pytest.mark.e2e
def test_real_rspamd(rspamd: tuple[str, str]) -> None:
    clean = check(rspamd[0], "Hello\n")
    assert (clean.word, clean.facts["action"]) == ("clean", "no action")
    spam = check(rspamd[0], GTUBE + "\n")
    assert (spam.word, spam.facts["action"]) == ("reject", "reject")
    assert "GTUBE" in spam.facts["symbols"]
    assert "Gtube" in spam.reason


@pytest.mark.e2e
def test_a_real_controller_wants_its_password(rspamd: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "mail"
    path.write_bytes(bytes(make_message()))
    event = Moved(1.0, "M", "ann@example.org", "INBOX", "Junk", str(path))
    options = {"address": rspamd[0], "controller": rspamd[1], "password": "wrong"}
    with Harness(mailguard_rspamd, options=options) as harness, pytest.raises(OSError, match=r" 40[13] "):
        harness.observe(event)


class Server:
    """An rspamd that answers with this object, again and again, and keeps what it was asked."""

    def __init__(self, answer: Any, status: str = "200 OK") -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._answer = f"HTTP/1.0 {status}\r\nContent-Type: application/json\r\n\r\n{json.dumps(answer)}".encode()
        self.asked: list[bytes] = []
        self.place = f"127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client:
                received = b""
                while b"\r\n\r\n" not in received or not received.endswith(b"\r\nHello\r\n"):
                    received += client.recv(65_536)
                self.asked.append(received)
                client.sendall(self._answer)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


@pytest.mark.parametrize(
    ("action", "word"),
    [
        ("no action", "clean"),
        ("greylist", "greylist"),
        ("add header", "add-header"),
        ("rewrite subject", "rewrite-subject"),
        ("soft reject", "soft-reject"),
        ("reject", "reject"),
        ("something new", "clean"),
    ],
)
def test_actions(action: str, word: str) -> None:
    symbols = {"A": {"name": "A", "score": 2.5, "description": "says so"}, "B": {"name": "B", "score": -4}}
    with Server({"action": action, "score": 7.25, "required_score": 15, "symbols": symbols}) as server:
        finding = check(server.place, "Hello\n", share=0.5)
    assert (finding.word, finding.points) == (word, 3.62)
    assert finding.reasons == ((-4.0, "B"), (2.5, "A says so"))
    assert finding.reason == "rspamd gives it 7.2 points of 15"
    head = server.asked[0].decode()
    for line in ("POST /checkv2 HTTP/1.0", "From: alice@example.net", "IP: 192.0.2.1", "Helo: mail.example.net",
                 "Rcpt: bob@example.org", "Queue-Id: M-test"):  # fmt: skip
        assert f"{line}\r\n" in head


def test_it_is_told_of_junk(tmp_path: Path) -> None:
    path = tmp_path / "mail"
    path.write_bytes(bytes(make_message()))
    with Server({"success": True}) as server:
        options = {"controller": server.place, "password": "sesame"}
        with Harness(mailguard_rspamd, options=options) as harness:
            for source, target in (("INBOX", "Junk"), ("Junk", "Archive"), ("INBOX", "Archive")):
                harness.observe(Moved(1.0, "M", "ann@example.org", source, target, str(path)))
    assert [asked.split(b" ")[1] for asked in server.asked] == [b"/learnspam", b"/learnham"]
    assert b"Password: sesame\r\nDeliver-To: ann@example.org\r\n" in server.asked[0]


@pytest.mark.parametrize(("answer", "status", "error"), [({}, "500 Oh", OSError), ([], "200 OK", ValueError)])
def test_nonsense_is_an_error(answer: Any, status: str, error: type[Exception]) -> None:
    with Server(answer, status) as server, pytest.raises(error):
        check(server.place, "Hello\n")


def test_large_messages_are_not_sent() -> None:
    assert run_check(mailguard_rspamd, options={"max_size": 10}) is None
