"""The milter check, against real milters: one of our own on Sendmail's library, and OpenDKIM, which signs."""

from __future__ import annotations

import base64
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import mailguard_milter
from mailguard.plugin import Action, Address, Finding, Findings, Message, Verdict, verify_dkim
from mailguard.testing import (
    FakeResolver,
    Harness,
    Program,
    free_port,
    make_envelope,
    make_message,
    make_session,
    need,
    run_check,
)

# What this milter does hangs on the local part of the sender; what it saw it tells in header fields.
SCRIPT = """
import sys
import Milter

class Test(Milter.Base):
    def connect(self, name, family, address):
        self.client, self.seen, self.rcpts = (name, address[0]), [], []
        return Milter.CONTINUE

    def hello(self, name):
        self.helo = name
        return Milter.CONTINUE

    def envfrom(self, sender, *rest):
        self.what = sender.strip("<>").partition("@")[0]
        if self.what == "refuse":
            self.setreply("550", "5.7.1", "we do not like you")
            return Milter.REJECT
        return {"later": Milter.TEMPFAIL, "drop": Milter.DISCARD, "fine": Milter.ACCEPT}.get(self.what, Milter.CONTINUE)

    def envrcpt(self, rcpt, *rest):
        self.rcpts.append(rcpt)
        if "nobody" in rcpt:
            self.setreply("550", "5.1.1", "nobody of that name")
            return Milter.REJECT
        return Milter.CONTINUE

    def header(self, name, value):
        self.seen.append(name + "=" + repr(value))
        return Milter.REJECT if "bad header" in value else Milter.CONTINUE

    def body(self, chunk):
        self.length = getattr(self, "length", 0) + len(chunk)
        return Milter.CONTINUE

    def eom(self):
        if self.what == "hold":
            self.quarantine("held by the test")
        if self.what == "change":
            self.replacebody("changed")
            self.chgheader("Subject", 1, "changed")
            self.addrcpt("<spy@example.org>")
            self.delrcpt("<bob@example.org>")
        self.addheader("X-Seen", "%d octets from %s by %s as %s for %s id %s" % (
            getattr(self, "length", 0), self.client, self.helo, self.getsymval("j"), len(self.rcpts),
            self.getsymval("i")))
        self.addheader("X-Folded", "one\\n\\ttwo", 0)
        self.addheader("Authentication-Results", "mx.example.org; spf=pass")
        self.addheader("X-Headers", ";".join(self.seen)[:300])
        return Milter.REJECT if self.what == "end" else Milter.CONTINUE

Milter.factory = Test
Milter.set_flags(Milter.ADDHDRS + Milter.CHGHDRS + Milter.CHGBODY + Milter.ADDRCPT + Milter.DELRCPT + Milter.QUARANTINE)
Milter.runmilter("test", sys.argv[1], 30)
"""


@pytest.fixture(scope="module")
def milter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    python, folder = "/usr/bin/python3", tmp_path_factory.mktemp("milter")
    if subprocess.run([python, "-c", "import Milter"], capture_output=True, check=False).returncode:
        pytest.skip("python3-milter is not installed")
    (folder / "script.py").write_text(SCRIPT)
    port = free_port()
    command = [python, "script.py", f"inet:{port}@127.0.0.1"]
    with Program(command, f"inet:{port}@127.0.0.1", folder=folder) as running:
        yield running


def check(place: str, sender: str = "al", message: Message | None = None, rcpt: tuple[str, ...] = ()) -> Finding:
    finding = run_check(
        mailguard_milter,
        session=make_session("192.0.2.1", ptr="mail.example.net"),
        envelope=make_envelope(f"{sender}@example.net", rcpt or ("bob@example.org",)),
        message=message,
        options={"address": place},
    )
    assert finding is not None
    return finding


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("sender", "word", "reason"),
    [
        ("al", "pass", "says pass"),
        ("fine", "pass", "says pass"),
        ("refuse", "reject", "5.7.1 we do not like you"),
        ("later", "tempfail", "says tempfail"),
        ("drop", "discard", "says discard"),
        ("hold", "quarantine", "held by the test"),
        ("end", "reject", "says reject"),
    ],
)
def test_a_real_milter_decides(milter: Program, sender: str, word: str, reason: str) -> None:
    finding = check(milter.place, sender)
    assert finding.word == word
    assert reason in finding.reason


@pytest.mark.e2e
def test_what_a_real_milter_sees_and_adds(milter: Program) -> None:
    message = make_message("x" * 70 + "\n" + "y\n" * 50_000, headers=[("X-Long", "a\n\tb")])
    finding = check(milter.place, message=message)
    added = dict(finding.facts["add"])
    seen = "150072 octets from ('mail.example.net', '192.0.2.1') by mail.example.net as mx.example.org for 1 id M-test"
    assert added["X-Seen"] == seen
    assert "From='Alice <alice@example.net>'" in added["X-Headers"]
    assert "X-Long='a\\n\\tb'" in added["X-Headers"]
    assert added["X-Folded"] == "one\n\ttwo"
    with Harness(mailguard_milter, options={"address": milter.place}) as harness:
        verdict = Verdict(Action.ACCEPT, findings=Findings({"milter": finding}))
        assert [name for name, _ in harness.stamp(verdict=verdict)][:2] == ["X-Seen", "X-Folded"]


@pytest.mark.e2e
def test_changes_are_told_and_not_made(milter: Program) -> None:
    finding = check(milter.place, "change")
    assert finding.word == "pass"
    for wish in ("replace the body", "change a header field", "add a recipient", "remove a recipient"):
        assert f"it wanted to {wish}, which is not done" in finding.detail


@pytest.mark.e2e
def test_a_header_may_be_refused(milter: Program) -> None:
    assert check(milter.place, message=make_message(subject="a bad header")).word == "reject"


@pytest.mark.e2e
def test_recipients(milter: Program) -> None:
    some = check(milter.place, rcpt=("nobody@example.org", "ann@example.org"))
    assert (some.word, some.detail) == ("pass", "it refused nobody@example.org")
    everybody = check(milter.place, rcpt=("nobody@example.org", "nobody2@example.org"))
    assert (everybody.word, everybody.reason) == ("reject", "5.1.1 nobody of that name")
    with Harness(mailguard_milter, options={"address": milter.place, "recipients": True}) as harness:
        refused = harness.check(hook="check_recipient", recipient=Address.parse("nobody@example.org"))
        assert refused is not None
        assert (refused.word, refused.reason) == ("reject", "5.1.1 nobody of that name")
        assert harness.check(hook="check_recipient", recipient=Address.parse("ann@example.org")) is None


@pytest.mark.e2e
def test_opendkim_signs_what_we_pass_on(tmp_path: Path) -> None:
    program, port = need("opendkim"), free_port()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (tmp_path / "key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    (tmp_path / "key").chmod(0o600)
    (tmp_path / "hosts").write_text("192.0.2.1\n")
    (tmp_path / "conf").write_text(
        f"Socket inet:{port}@127.0.0.1\nDomain example.net\nSelector s\nKeyFile {tmp_path / 'key'}\nMode s\n"
        f"InternalHosts {tmp_path / 'hosts'}\nCanonicalization simple/simple\nRequireSafeKeys no\nSyslog no\n"
        f"PidFile {tmp_path / 'pid'}\nBackground no\n"
    )
    command = [program, "-f", "-x", str(tmp_path / "conf")]
    message = make_message("A line \n\n  and another\t one\n\n\n", headers=[("X-Folded", "a\n  b")])
    with Program(command, f"inet:{port}@127.0.0.1", folder=tmp_path) as running:
        finding = check(running.place, message=message)
    assert finding.word == "pass"
    ((name, value),) = finding.facts["add"]
    assert name == "DKIM-Signature"
    signed = Message(f"{name}: {value.strip()}\n".replace("\n", "\r\n").encode() + bytes(message))
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    dns = FakeResolver({"s._domainkey.example.net TXT": f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}"})
    (result,) = verify_dkim(signed, dns, now=1_700_000_000.0)
    assert (result.result, result.domain) == ("pass", "example.net")


class Fake:
    """A milter that negotiates with these steps and then answers each packet from a table; it keeps what it got."""

    def __init__(self, steps: int, answers: dict[str, bytes], version: int = 6) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._hello = b"O" + struct.pack("!III", version, 0x1FF, steps)
        self._answers = answers
        self.got: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with self._socket, self._socket.accept()[0] as client, client.makefile("rb") as file:
            while len(head := file.read(4)) == 4:
                packet = file.read(struct.unpack("!I", head)[0])
                self.got.append(packet)
                kind = chr(packet[0])
                answer = self._hello if kind == "O" else self._answers.get(kind, b"")
                if answer:
                    client.sendall(struct.pack("!I", len(answer)) + answer)

    def end(self) -> str:
        self._thread.join(5)
        return "".join(chr(packet[0]) for packet in self.got if packet[:1] != b"D")


def test_nothing_is_sent_that_is_not_wanted() -> None:
    all_quiet = 0x1FFFFF
    fake = Fake(all_quiet, {"E": b"c"})
    assert check(fake.place).word == "pass"
    assert fake.end() == "OEQ"


def test_quiet_steps_are_not_waited_for() -> None:
    quiet = 0x80 | 0x1000 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x40000 | 0x80000
    fake = Fake(quiet, {"E": b"a"})
    assert check(fake.place).word == "pass"
    assert fake.end() == "OCHMRTLLLLLNBEQ"


def test_progress_and_skip() -> None:
    answers = dict.fromkeys("CHMRTLN", b"c") | {"B": b"s", "E": b"c"}
    fake = Fake(0x400, answers)
    assert check(fake.place, message=make_message("z\n" * 100_000)).word == "pass"
    assert fake.end().count("B") == 1


@pytest.mark.parametrize(
    ("answers", "version", "error"),
    [
        ({"C": b"?"}, 6, "nothing known"),
        ({}, 1, "too old"),
    ],
)
def test_nonsense_is_an_error(answers: dict[str, bytes], version: int, error: str) -> None:
    fake = Fake(0, answers, version)
    with pytest.raises(ValueError, match=error):
        check(fake.place)
    fake.end()


def test_a_milter_that_hangs_up_is_an_error() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: server.accept()[0].close())
    thread.start()
    with pytest.raises((EOFError, OSError)):
        check(f"127.0.0.1:{server.getsockname()[1]}")
    thread.join()
    server.close()


def test_a_wrong_address_is_told() -> None:
    with pytest.raises(ValueError, match="neither host:port nor"):
        run_check(mailguard_milter, options={"address": "opendkim"})
