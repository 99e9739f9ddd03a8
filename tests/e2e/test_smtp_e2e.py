"""The front door of a running server: smuggling, submission, LMTP, XCLIENT, large and slow messages, real clients."""

from __future__ import annotations

import json
import shutil
import smtplib
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
import smtptalk

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Talk, mails, submitting, USER1, USER2 = (
    smtptalk.Talk, smtptalk.mails, smtptalk.submitting, smtptalk.USER1, smtptalk.USER2,
)  # fmt: skip

SETTINGS = (
    'dns.nameservers=["127.0.0.1:9"]', 'smtp.xclient_from=["127.0.0.2/32"]', 'smtp.spool_over="128K"',
    "smtp.data_timeout=2", "smtp.timeout=6", "submission.recipients_per_hour=40", "smtp.line_limit=2000",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    base = tmp_path_factory.mktemp("smtp")
    made = smtptalk.installed.Installed(base / "m", settings=SETTINGS)
    with made.config.open("a") as config:
        for address, port in (("127.0.0.1", made.port(24)), (str(base / "lmtp"), 0), ("127.0.0.2", made.port(25))):
            kind = "smtp" if address == "127.0.0.2" else "lmtp"
            config.write(f'\n[[listener]]\nkind = "{kind}"\naddress = "{address}"\nport = {port}\n')
    text = made.config.read_text()
    made.config.write_text(
        text.replace(f"port = {made.port(25)}\n", f'address = "127.0.0.1"\nport = {made.port(25)}\n', 1)
    )
    (made.folder / "policy.toml").write_text("")  # the front door alone
    made.socket = str(base / "lmtp")
    made.add_users()
    made.run("dkim", "add", "office.test")
    made.start()
    yield made
    made.stop()


def subjects(server: Any, user: str) -> list[str]:
    return [raw.split(b"Subject: ")[1].split(b"\r\n")[0].decode() for raw in mails(server, user) if b"Subject: " in raw]


# -- smuggling ------------------------------------------------------------------------------------------------

ENDS = [
    b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r", b"\r\r\n.\r\n", b"\r\n\0.\r\n",
    b"\r\n.\r\r\n", b"\n\n.\n\n", b"\r\n.\0\r\n",
]  # fmt: skip


@pytest.mark.parametrize("pieces", [False, True], ids=["whole", "in pieces"])
@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_nothing_is_smuggled(server: Any, end: bytes, pieces: bool) -> None:
    before = len(mails(server, USER1)), len(mails(server, USER2))
    stream = b"Subject: first\r\n\r\nbody" + end + b"MAIL FROM:<evil@x.test>\r\nRCPT TO:<" + USER2.encode()
    stream += b">\r\nDATA\r\nSubject: smuggled\r\n\r\nevil\r\n.\r\n"
    with Talk(server.port(25)) as talk:
        talk.open()
        assert talk.say("DATA").startswith("354")
        for piece in [stream[n : n + 1] for n in range(len(stream))] if pieces else [stream]:
            talk.send(piece)
        reply = talk.reply()
        assert reply.startswith(("550 5.6.0", "554 5.6.0")), reply
        if reply.startswith("550"):
            assert talk.reply() == ""  # closed: what follows is no command
    assert (len(mails(server, USER1)), len(mails(server, USER2))) == before


def test_a_command_that_ends_with_lf_alone_ends_the_connection(server: Any) -> None:
    with Talk(server.port(25)) as talk:
        talk.send(b"EHLO c.test\nMAIL FROM:<a@x.test>\r\n")
        assert talk.reply().startswith("521 5.5.2")
        assert talk.reply() == ""


def test_what_is_pipelined_behind_starttls_is_forgotten(server: Any) -> None:
    with Talk(server.port(25)) as talk:
        talk.say("EHLO c.test")
        talk.send(b"STARTTLS\r\nMAIL FROM:<evil@x.test>\r\n")
        assert talk.reply().startswith("220")
        talk.sock = smtptalk.unchecked().wrap_socket(talk.sock)
        assert talk.say("MAIL FROM:<a@x.test>").startswith("503 5.5.1 say EHLO first")


# -- submission -----------------------------------------------------------------------------------------------


def test_a_submitted_message_is_completed_and_signed(server: Any) -> None:
    with submitting(server) as talk:
        talk.open(USER2, USER1)
        long = b"long " * 400
        assert talk.data(b"To: x@y.test\r\nBcc: hidden@y.test\r\nSubject: fixed\r\n\r\n" + long).startswith("250")
    (raw,) = [m for m in mails(server, USER2) if b"Subject: fixed" in m]
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"hidden@y.test" not in raw and b"127.0.0.1" not in head
    assert f"\r\nFrom: {USER1}\r\n".encode() in head
    assert b"\r\nDate: " in head and b"\r\nMessage-ID: <" in head
    assert head.count(b"\r\nDKIM-Signature: v=1; a=") == 2 and b"d=office.test" in head
    assert b"with ESMTPSA (TLSv1.3 " in head
    assert max(map(len, body.split(b"\r\n"))) <= 998
    assert body.replace(b"\r\n", b"").split() == long.split()


def test_who_may_send_as_whom(server: Any) -> None:
    with submitting(server) as talk:
        talk.say("EHLO c.test")
        refused = talk.say(f"MAIL FROM:<{USER2}>")
        assert refused.startswith(f"553 5.7.1 {USER1} may not send as {USER2}") and f'send_as = ["{USER2}"]' in refused
        talk.open(USER2, "")
        assert talk.data(f"From: {USER2}\r\n\r\nx".encode()).startswith("553 5.7.1")
    with Talk(server.port(587)) as talk:
        talk.say("EHLO c.test")
        assert talk.sign_in().startswith("538 5.7.11")
        assert talk.say(f"MAIL FROM:<{USER1}>").startswith("530 5.7.0 STARTTLS first")
        talk.start_tls()
        assert talk.say(f"MAIL FROM:<{USER1}>").startswith("530 5.7.0")
        assert talk.sign_in(password="wrong").startswith("535 5.7.8")
        assert talk.sign_in().startswith("235 2.7.0")
        assert talk.say("RCPT TO:<bob@elsewhere.test>").startswith("503")
    with Talk(server.port(25)) as talk:
        talk.say("EHLO c.test")
        assert talk.sign_in().startswith("502 5.5.1 no AUTH")


def test_a_message_can_be_held_back(server: Any) -> None:
    with submitting(server) as talk:
        offered = talk.say("EHLO c.test")
        assert "FUTURERELEASE 604800 20" in offered and "REQUIRETLS" in offered and "LIMITS MAILMAX=1000" in offered
        assert talk.say(f"MAIL FROM:<{USER1}> HOLDFOR=999999999").startswith("501 5.5.4")
        talk.open(USER2, USER1, mail=" HOLDFOR=3600")
        assert talk.data(b"Subject: later").startswith("250")
    assert "later" not in subjects(server, USER2)
    listed = server.run("queue", "--config", str(server.config), "list", "--json", config=False).stdout
    (entry,) = [json.loads(line) for line in listed.splitlines() if USER2 in line]
    assert entry["sender"] == USER1


def test_over_the_limit_mail_is_held_and_the_postmaster_told(server: Any) -> None:
    rcpts = [f"user{n}@elsewhere.test" for n in range(41)]
    with submitting(server, user=USER2) as talk:
        talk.say("EHLO c.test")
        assert talk.say(f"MAIL FROM:<{USER2}>").startswith("250")
        for rcpt in rcpts:
            assert talk.say(f"RCPT TO:<{rcpt}>").startswith("250")
        assert talk.data(b"Subject: newsletter").startswith("250")  # held, not bounced
    listed = server.run("queue", "--config", str(server.config), "list", "--held", "--json", config=False).stdout
    assert len([line for line in listed.splitlines() if "recipients_per_hour of [submission] is 40" in line]) == 41
    assert any(s == f"Mail of {USER2} is held" for s in subjects(server, USER1))


# -- LMTP and XCLIENT -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_lmtp_answers_for_each_recipient(server: Any, unix: bool) -> None:
    with Talk(server.socket if unix else server.port(24)) as talk:
        assert "LMTP" in talk.greeting
        assert talk.say("EHLO c.test").startswith("500 5.5.1 this is LMTP")
        assert talk.say("LHLO c.test").startswith("250-")
        assert talk.say("MAIL FROM:<a@x.test>").startswith("250")
        assert talk.say("DATA").startswith("503")
        for rcpt, code in (
            (USER1, "250"),
            ("nobody@office.test", "550 5.1.1"),
            (USER2, "250"),
            ("b@x.test", "550 5.7.1"),
        ):
            assert talk.say(f"RCPT TO:<{rcpt}>").startswith(code)
        replies = [talk.data(b"Subject: lmtp"), talk.reply()]
        assert [r[:9] for r in replies] == ["250 2.0.0", "250 2.0.0"]
        talk.open(USER1, hello="LHLO")
        talk.say(f"RCPT TO:<{USER2}>")
        replies = [talk.data(b"Subject: bad\n"), talk.reply()]
        assert [r[:9] for r in replies] == ["550 5.6.0"] * 2
    assert subjects(server, USER1).count("lmtp") == 1 + unix
    assert b"with LMTP " in [m for m in mails(server, USER2) if b"Subject: lmtp" in m][-1]


def test_xclient_is_believed_from_those_who_may(server: Any) -> None:
    with Talk(server.port(25)) as talk:
        assert "XCLIENT" not in talk.say("EHLO c.test")
        assert talk.say("XCLIENT ADDR=192.0.2.9").startswith("550 5.7.1")
    with smtplib.SMTP() as client:
        client.source_address = ("127.0.0.2", 0)  # type: ignore[attr-defined]
        client.connect("127.0.0.1", server.port(25))
        client.ehlo()
        assert client.has_extn("xclient")
        code, _ = client.docmd("XCLIENT NAME=mx.sender.test ADDR=192.0.2.9 PORT=4711 PROTO=ESMTP HELO=mail.sender.test")
        assert code == 220
        client.ehlo("mail.sender.test")
        client.sendmail("a@sender.test", [USER1], b"Subject: proxied\r\n\r\nx\r\n")
    (raw,) = [m for m in mails(server, USER1) if b"Subject: proxied" in m]
    assert b"Received: from mail.sender.test (mx.sender.test [192.0.2.9])" in raw


# -- large, slow, gone ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["DATA", "BDAT"])
def test_a_large_message_arrives_whole_and_leaves_nothing_behind(server: Any, by: str) -> None:
    body = b"".join(b".%07d" % n + b"x" * 60 + b"\r\n" for n in range(12_000))
    message = f"Subject: large {by}\r\n\r\n".encode() + body
    with Talk(server.port(25)) as talk:
        talk.open()
        if by == "DATA":
            assert talk.say("DATA").startswith("354")
            talk.send(message.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        else:
            for at in range(0, len(message), 300_000):
                chunk = message[at : at + 300_000]
                last = " LAST" if at + 300_000 >= len(message) else ""
                talk.send(f"BDAT {len(chunk)}{last}\r\n".encode() + chunk)
                reply = talk.reply() if not last else ""
                assert reply.startswith("250") or last
        assert talk.reply().startswith("250 2.0.0 taken as")
    (raw,) = [m for m in mails(server, USER1) if f"Subject: large {by}".encode() in m]
    assert raw.endswith(message)
    assert smtptalk.leftovers(server) == []


def test_limits_are_told_and_nothing_is_kept(server: Any) -> None:
    with Talk(server.port(25)) as talk:
        talk.open()
        assert talk.data(b"Subject: line\r\n\r\n" + b"y" * 3000).startswith("554 5.6.0")
        talk.open()
        assert talk.data(b"Received: x\r\n" * 50 + b"\r\n").startswith("554 5.4.6")
        assert talk.say("MAIL FROM:<a@x.test> SIZE=99999999").startswith("552 5.3.4")
    with Talk(server.port(25)) as talk:
        talk.open(sender="")
        assert talk.say(f"RCPT TO:<{USER2}>").startswith("452 4.5.3 one recipient at a time")


def test_a_slow_client_is_cut_off_and_nothing_is_delivered(server: Any) -> None:
    before = len(mails(server, USER1))
    with Talk(server.port(25)) as talk:
        talk.open()
        talk.say("DATA")
        until = time.monotonic() + 8
        while time.monotonic() < until:
            try:
                talk.send(b"drip\r\n")
            except OSError:
                break
            time.sleep(0.3)
        assert talk.reply().startswith("421 4.4.2") and time.monotonic() < until
    assert len(mails(server, USER1)) == before


def test_a_client_gone_in_the_middle_leaves_nothing(server: Any) -> None:
    before = len(mails(server, USER1))
    for size in (100, 400_000):
        with Talk(server.port(25)) as talk:
            talk.open()
            talk.say("DATA")
            talk.send(b"Subject: gone\r\n\r\n" + b"zz\r\n" * (size // 4))
    server.wait_for("connection lost in the middle of a message")
    server.wait_for("connection lost in the middle of a message")
    assert len(mails(server, USER1)) == before and smtptalk.leftovers(server) == []


# -- other programs -------------------------------------------------------------------------------------------

TLS = {
    "587": ["-tls", "-p", "587"],
    "465": ["-tlsc", "-p", "465"],
    "587-1.2": ["-tls", "-p", "587", "--tls-protocol", "tlsv1_2"],
}


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not installed")
@pytest.mark.parametrize("auth", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("tls", TLS)
def test_swaks_with_every_tls_and_mechanism(server: Any, tls: str, auth: str) -> None:
    done = _swaks(server, *TLS[tls], "--auth", auth, "--auth-user", USER1, "--auth-password", smtptalk.PASSWORD)
    assert done.returncode == 0 and "250 2.0.0 taken as" in done.stdout, done.stdout


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not installed")
@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (["-p", "25"], "250 2.0.0"),
        (["-p", "25", "-tls"], "250 2.0.0"),
        (["-p", "25", "--pipeline"], "250 2.0.0"),
        (["-p", "587", "--auth", "PLAIN", "--auth-user", USER1, "--auth-password", "x"], "advertise|support"),
        (["-p", "465", "-tlsc", "--auth", "PLAIN", "--auth-user", USER1, "--auth-password", "wrong"], "535 5.7.8"),
        (["-p", "587", "-tls"], "530 5.7.0"),
        (["-p", "24", "--protocol", "LMTP"], "250 2.0.0"),
    ],
    ids=["25", "25 tls", "25 pipelined", "587 clear", "465 wrong", "587 unsigned", "lmtp"],
)  # fmt: skip
def test_swaks_other_ways(server: Any, how: list[str], expected: str) -> None:
    done = _swaks(server, *how)
    assert any(text in done.stdout + done.stderr for text in expected.split("|")), done.stdout + done.stderr


def _swaks(server: Any, *how: str) -> subprocess.CompletedProcess[str]:
    ports = {str(n): str(server.port(n)) for n in (24, 25, 465, 587)}
    arguments = [ports.get(word, word) for word in how]
    command = ["swaks", "--to", USER2, "--from", USER1, "--server", "127.0.0.1", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(
    shutil.which("smtp-source", path="/usr/sbin:/usr/bin") is None, reason="smtp-source is not installed"
)
def test_smtp_source_sends(server: Any) -> None:
    before = len(mails(server, USER1))
    command = ["smtp-source", "-s", "5", "-m", "50", "-l", "2000", "-f", "a@x.test", "-t", USER1]
    program = shutil.which("smtp-source", path="/usr/sbin:/usr/bin")
    done = subprocess.run(
        [str(program), *command[1:], f"inet:127.0.0.1:{server.port(25)}"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert len(mails(server, USER1)) == before + 50
