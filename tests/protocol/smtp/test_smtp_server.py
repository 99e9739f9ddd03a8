"""The server's side of SMTP: dialogues, cuts, smuggling, and what STARTTLS must forget."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.model.reply import Reply
from mailguard.protocol.smtp import command as cmd
from mailguard.protocol.smtp.event import AuthEvent, CloseEvent, ContentEvent, Profile, StartTlsEvent
from mailguard.protocol.smtp.server import SmtpServer
from mailguard.protocol.wire import NEED_DATA

DIALOGUES = sorted((Path(__file__).parents[2] / "dialogues/smtp").glob("*.txt"))
MX = Profile("mx.test", size_limit=1000, rcpt_max=2, starttls=True)
SUBMISSION = Profile(
    "mx.test",
    *(1000, 2),
    mechanisms=("PLAIN",),
    needs_auth=True,
    secured=True,
    mail_max=3,
    hold_max=3600,
    hold_until=1_767_225_600,
)
PROFILES = {
    "submission": SUBMISSION,
    "auth": SUBMISSION,
    "lmtp": Profile("mx.test", 1000, 3, lmtp=True),
}


class Bench:
    """A server whose driver takes all but ``nobody@``, and repeats each message in its reply."""

    def __init__(self, profile: Profile = MX) -> None:
        self.server = SmtpServer(profile)
        self.messages: list[bytes] = []
        self.closed = False
        self.server.greet()

    def say(self, data: bytes) -> bytes:
        self.server.receive_data(data)
        while (event := self.server.next_event()) is not NEED_DATA:
            match event:
                case cmd.Mail():
                    self.server.send(Reply.of(250, "2.1.0", "ok"))
                case cmd.Rcpt():
                    unknown = event.recipient.address.local == "nobody"
                    self.server.send(
                        Reply.of(550, "5.1.1", "no such user") if unknown else Reply.of(250, "2.1.5", "ok")
                    )
                case ContentEvent():
                    self._content(event)
                case AuthEvent(response=None):
                    self.server.challenge(b"?")
                case AuthEvent():
                    good = event.response == b"\0a\0b"
                    self.server.send(Reply.of(235, "2.7.0", "welcome") if good else Reply.of(535, "5.7.8", "wrong"))
                case StartTlsEvent():
                    self.server.secured(["PLAIN"])
                case CloseEvent():
                    self.closed = True
                    break
        return self.server.data_to_send()

    def _content(self, event: ContentEvent) -> None:
        if event.flaw is not None:
            self.server.send(event.flaw, close=True)
            return
        self.messages.append(event.raw)
        shown = event.raw.decode().replace("\r", "\\r").replace("\n", "\\n")
        self.server.send(Reply.of(250, "2.0.0", f"taken [{shown}]"))


def steps(path: Path) -> list[tuple[bytes, bytes]]:
    """What the client says and what it must hear, in turns."""
    found: list[tuple[bytes, bytes]] = [(b"", b"")]
    for line in path.read_text().splitlines():
        if line.startswith("C:"):
            said, heard = found[-1]
            if heard:
                found.append((b"", b""))
                said = b""
            found[-1] = (said + line[3:].encode() + b"\r\n", b"")
        elif line.startswith("S:"):
            said, heard = found[-1]
            found[-1] = (said, heard + line[3:].encode() + b"\r\n")
    return found


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda p: p.stem)
def test_dialogues(path: Path) -> None:
    bench = Bench(PROFILES.get(path.stem, MX))
    for said, heard in steps(path):
        assert bench.say(said) == heard, said
    assert bench.closed


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda p: p.stem)
def test_dialogues_byte_by_byte(path: Path) -> None:
    bench = Bench(PROFILES.get(path.stem, MX))
    said, heard = (b"".join(part) for part in zip(*steps(path), strict=True))
    assert bench.say(b"") + b"".join(bench.say(bytes([octet])) for octet in said) == heard


@given(st.data())
def test_dialogues_at_random_cuts(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(DIALOGUES))
    said, heard = (b"".join(part) for part in zip(*steps(path), strict=True))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(said)), max_size=8)))
    bench = Bench(PROFILES.get(path.stem, MX))
    answer, at = bench.say(b""), 0
    for cut in [*cuts, len(said)]:
        answer += bench.say(said[at:cut])
        at = cut
    assert answer == heard


HEAD = b"EHLO c\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@office.test>\r\nDATA\r\n"


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r.\r\n", b"\r\n.\r", b"\r\n.\n", b"\r.\r", b"\r\n\0.\r\n"])
def test_nothing_is_smuggled(end: bytes) -> None:
    bench = Bench()
    bench.say(HEAD)
    answer = bench.say(b"Subject: x\r\n\r\nbody" + end + b"MAIL FROM:<evil@x.test>\r\nNOOP\r\n" + b"\r\n.\r\nNOOP\r\n")
    assert bench.messages == []
    assert answer[:2] == b"55"
    assert answer.count(b"\r\n") == 1
    assert bench.closed


def test_starttls_forgets_what_came_with_it() -> None:
    bench = Bench()
    bench.say(b"EHLO c\r\nMAIL FROM:<a@x.test>\r\n")
    assert bench.say(b"STARTTLS\r\nRCPT TO:<b@office.test>\r\nNOOP\r\n") == b"220 2.0.0 go ahead\r\n"
    assert bench.say(b"MAIL FROM:<a@x.test>\r\n") == b"503 5.5.1 say EHLO first\r\n"
    answer = bench.say(b"EHLO c\r\n")
    assert b"STARTTLS" not in answer and b"AUTH PLAIN" in answer
    assert bench.say(b"STARTTLS\r\n").startswith(b"503")


def test_submission_wants_tls_then_a_password() -> None:
    bench = Bench(Profile("mx.test", 1000, 10, starttls=True, needs_auth=True))
    bench.say(b"EHLO c\r\n")
    assert bench.say(b"AUTH PLAIN AGEAYg==\r\n").startswith(b"538 5.7.11")
    assert bench.say(b"MAIL FROM:<a@x.test>\r\n").startswith(b"530 5.7.0")
    bench.say(b"STARTTLS\r\n")
    bench.say(b"EHLO c\r\n")
    assert bench.say(b"AUTH NONSENSE\r\n").startswith(b"504 5.5.4")
    assert bench.say(b"AUTH PLAIN AGEAYw==\r\n").startswith(b"535 5.7.8")
    assert bench.say(b"AUTH PLAIN AGEAYg==\r\n").startswith(b"235 2.7.0")
    assert bench.say(b"AUTH PLAIN AGEAYg==\r\n").startswith(b"503 5.5.1")
    assert bench.say(b"MAIL FROM:<a@x.test>\r\n").startswith(b"250")


def test_errors_and_lines_are_bounded() -> None:
    bench = Bench()
    bench.say(b"")
    assert bench.say(b"x" * 5000 + b"\r\nNOOP\r\n") == b"500 5.5.2 line longer than 2048 octets\r\n250 2.0.0 ok\r\n"
    answer = bench.say(b"NONSENSE\r\n" * 50)
    assert answer.endswith(b"421 4.7.0 20 errors: closing this connection\r\n")
    assert bench.closed and bench.say(b"NOOP\r\n") == b""


WORDS = [
    *(b"EHLO c\r\n", b"MAIL FROM:<a@x.test>\r\n", b"RCPT TO:<b@office.test>\r\n", b"DATA\r\n", b"\r\n.\r\n"),
    *(b"RSET\r\n", b"BDAT 3\r\nabc", b"BDAT 2 LAST\r\nxy", b"AUTH PLAIN\r\n", b"*\r\n", b"QUIT\r\n"),
    *(b"text\r\n", b"\0\xff\r\n"),
]


@given(st.lists(st.sampled_from(WORDS), max_size=20))
def test_any_stream_gets_only_replies(stream: list[bytes]) -> None:
    bench = Bench()
    for line in (bench.say(b"") + b"".join(bench.say(part) for part in stream)).split(b"\r\n")[:-1]:
        plain = line.startswith((b"220 mx.test ", b"250-", b"250 STARTTLS", b"334", b"354"))
        assert plain or re.match(rb"([245])\d\d \1\.\d+\.\d+ .", line), line  # RFC 2034 §4


LONG = [
    b"EHLO " + b"e" * 255,
    b"MAIL FROM:<" + b"m" * 500 + b"@x.test>",
    b"MAIL FROM:<a@x.test> " + b"P" * 1500 + b"=1",
    b"MAIL FROM:<a@x.test> SIZE=" + b"9" * 1500,
    b"RCPT TO:<" + b"r" * 64 + b"@" + b".".join([b"d" * 63] * 3) + b".test>",
    b"RCPT TO:<" + "ö".encode() * 200 + b"@x.test>",
    b"V" * 1500,
    b"AUTH " + b"A" * 1500,
    b"XCLIENT " + b"X" * 1500 + b"=1",
    b"BDAT " + b"9" * 1500,
]


@pytest.mark.parametrize("line", LONG, ids=lambda line: line[:9].decode())
def test_no_reply_is_longer_than_the_rfc_has_it(line: bytes) -> None:
    for profile in (MX, SUBMISSION):
        bench = Bench(profile)
        answer = bench.say(b"EHLO c\r\nMAIL FROM:<a@x.test> SMTPUTF8\r\n" + line + b"\r\n")
        assert max(map(len, answer.split(b"\r\n"))) <= 510  # RFC 5321 §4.5.3.1.5


NAMES = [b"localhost", b"[192.0.2.1]", b"[IPv6:2001:db8::1]", b"not_a_host", b"no.such.host.invalid", b"a..b", b"-"]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.decode())
def test_nobody_is_refused_for_the_name_of_his_host(name: bytes) -> None:
    bench = Bench()
    bench.say(b"")
    assert bench.say(b"EHLO " + name + b"\r\n").startswith(b"250-mx.test greets " + name)  # RFC 5321 §4.1.4


def test_a_response_that_is_too_long_ends_the_exchange() -> None:
    bench = Bench(SUBMISSION)
    bench.say(b"EHLO c\r\nAUTH PLAIN\r\n")
    assert bench.say(b"x" * 20_000 + b"\r\n") == b"500 5.5.2 line longer than 12288 octets\r\n"
    assert bench.say(b"MAIL FROM:<a@x.test>\r\n").startswith(b"530 5.7.0")


def test_commands_are_bounded() -> None:
    bench = Bench(replace(MX, commands_max=100))
    answer = bench.say(b"NOOP\r\n" * 101)
    assert answer.endswith(b"421 4.7.0 more than 100 commands: closing this connection\r\n")
    assert answer.count(b"250 2.0.0 ok") == 100 and bench.closed
