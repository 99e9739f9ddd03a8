"""Who gets in, and how: SCRAM bound to the certificate, bans, proxies, clients turned away; what a message carries."""

from __future__ import annotations

import base64
import hashlib
import json
import signal
import socket
import ssl
import struct
from collections.abc import Iterator
from typing import Any

import pytest
import smtptalk
from scramp import ScramClient

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

Talk, has, mails, USER1, USER2, PASSWORD = (
    smtptalk.Talk, smtptalk.has, smtptalk.mails, smtptalk.USER1, smtptalk.USER2, smtptalk.PASSWORD,
)  # fmt: skip

POLICY = """
[[rule]]
name = "not from there"
when = 'client.ip == "192.0.2.66"'
then = "reject"
"""
SETTINGS = (
    "workers=1", 'auth.allow=["127.0.0.9/32"]', "auth.account_failures=3", "auth.delay=0", "smtp.timeout=3",
    "smtp.commands=150", "smtp.messages=3", "submission.new_recipients_per_day=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with smtptalk.serving(tmp_path_factory.mktemp("doors") / "m", *SETTINGS, policy=POLICY) as made:
        listener = f'kind = "smtp"\naddress = "127.0.0.1"\nport = {made.port(24)}\nproxy_from = ["127.0.0.2"]\n'
        listener = f"\n[[listener]]\n{listener}"
        made.config.write_text(made.config.read_text() + listener)
        made.stop()
        made.start()
        yield made


# -- SCRAM ----------------------------------------------------------------------------------------------------


def secured(server: Any, port: int, version: ssl.TLSVersion) -> Any:
    """A connection in TLS of this version, EHLO said."""
    context = smtptalk.unchecked()
    context.minimum_version = context.maximum_version = version
    if port == 465:
        talk = Talk.__new__(Talk)
        sock = socket.create_connection(("127.0.0.1", server.port(465)), timeout=30)
        talk.sock, talk._got = context.wrap_socket(sock), b""
        talk.reply()
    else:
        talk = Talk(server.port(port))
        talk.say("EHLO c.test")
        assert talk.say("STARTTLS").startswith("220")
        talk.sock = context.wrap_socket(talk.sock)
    assert "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN" in talk.say("EHLO c.test")
    return talk


def bound_to(certificate: bytes) -> tuple[str, bytes]:
    """The channel binding to a certificate signed with SHA-256, as ours is (RFC 5929 §4.1)."""
    return "tls-server-end-point", hashlib.sha256(certificate).digest()


def scram(talk: Any, mechanism: str, binding: Any = None, password: str = PASSWORD) -> str:
    """The reply that ends the exchange; checks that the server knows the password, too."""
    client = ScramClient([mechanism], USER1, password, channel_binding=binding)
    reply = talk.say(f"AUTH {mechanism} " + base64.b64encode(client.get_client_first().encode()).decode())
    if not reply.startswith("334 "):
        return reply
    client.set_server_first(base64.b64decode(reply[4:]).decode())
    reply = talk.say(base64.b64encode(client.get_client_final().encode()).decode())
    if reply.startswith("334 "):
        client.set_server_final(base64.b64decode(reply[4:]).decode())
        reply = talk.say("")
    return reply


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("port", [465, 587])
@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"])
def test_scram_over_every_kind_of_tls(server: Any, port: int, version: ssl.TLSVersion, mechanism: str) -> None:
    with secured(server, port, version) as talk:
        plus = mechanism.endswith("PLUS")
        binding = bound_to(talk.sock.getpeercert(True)) if plus else None
        assert scram(talk, mechanism, binding).startswith("235 2.7.0")
        talk.open(USER1, USER1)
        assert talk.data(b"Subject: scram\r\n\r\nx").startswith("250")


def test_scram_that_is_bound_to_somebody_elses_certificate_is_refused(server: Any) -> None:
    with secured(server, 465, ssl.TLSVersion.TLSv1_3) as talk:
        assert scram(talk, "SCRAM-SHA-256-PLUS", bound_to(b"another")).startswith("535 5.7.8")
        # A client that could bind and was told that we cannot: somebody stands between us (RFC 5802 §6).
        first = base64.b64encode(f"y,,n={USER1},r=abcdefghijklmnopqrstuvwx".encode()).decode()
        assert talk.say(f"AUTH SCRAM-SHA-256 {first}").startswith("535 5.7.8")


# -- bans -----------------------------------------------------------------------------------------------------


def attempt(server: Any, password: str, source: str) -> str:
    """The reply to a sign-in from this address."""
    sock = socket.create_connection(("127.0.0.1", server.port(465)), timeout=30, source_address=(source, 0))
    with Talk.__new__(Talk) as talk:
        talk.sock, talk._got = smtptalk.unchecked().wrap_socket(sock), b""
        talk.reply()
        talk.say("EHLO c.test")
        reply: str = talk.sign_in(USER2, password)
        return reply


def bans(server: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(server.run("ban", "list", "--json").stdout)
    return found


def test_distinct_wrong_passwords_lead_to_a_ban_that_is_explained_and_lifted(server: Any) -> None:
    for _ in range(6):
        assert attempt(server, "one stale password", "127.0.0.3").startswith("535 5.7.8")
    assert bans(server) == []
    for n in range(2):
        assert attempt(server, f"guess {n}", "127.0.0.3").startswith("535 5.7.8")
    refused = attempt(server, PASSWORD, "127.0.0.3")
    assert refused.startswith("454 4.7.0 too many wrong passwords from 127.0.0.3; try again in 60 min")
    assert 'reason="banned: 3 distinct wrong passwords' in server.wait_for("banned:")
    (ban,) = bans(server)
    assert (ban["network"], ban["account"]) == ("127.0.0.3", USER2)
    assert ban["reason"] == f"3 distinct wrong passwords for {USER2}" and 55 <= ban["minutes_left"] <= 60
    assert attempt(server, PASSWORD, "127.0.0.4").startswith("235")  # nobody else suffers
    server.run("ban", "remove", "127.0.0.3")
    assert attempt(server, PASSWORD, "127.0.0.3").startswith("235") and bans(server) == []


def test_the_allow_list_wins_over_a_ban_that_stands(server: Any) -> None:
    for n in range(8):
        assert attempt(server, f"guess {n}", "127.0.0.9").startswith("535")
    assert attempt(server, PASSWORD, "127.0.0.9").startswith("235") and bans(server) == []
    for n in range(3):
        attempt(server, f"guess {n}", "127.0.0.5")
    assert attempt(server, PASSWORD, "127.0.0.5").startswith("454") and len(bans(server)) == 1
    text = server.config.read_text()
    server.config.write_text(text.replace("127.0.0.9/32", "127.0.0.5/32"))
    server.signal(signal.SIGHUP)
    server.wait_for("reloaded pid=")
    assert attempt(server, PASSWORD, "127.0.0.5").startswith("235")
    server.run("ban", "remove", "127.0.0.5")
    server.config.write_text(text)
    server.signal(signal.SIGHUP)
    server.wait_for("reloaded pid=")


# -- proxies, and clients turned away -------------------------------------------------------------------------

V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(
    "!H4s4sHH", 12, bytes([192, 0, 2, 7]), bytes([192, 0, 2, 1]), 4711, 25
)


@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n", V2], ids=["v1", "v2"])
def test_a_proxy_tells_who_its_client_is(server: Any, header: bytes) -> None:
    with through_proxy(server, header, "127.0.0.2") as talk:
        assert talk.reply().startswith("220")
        talk.open(USER1)
        ident = talk.data(b"Subject: proxied\r\n\r\nx").split()[-1]
    server.wait_for(f"delivered id={ident}")
    (raw,) = [m for m in mails(server, USER1) if ident.encode() in m]
    assert b"Received: from c.test ([192.0.2.7])" in raw


def test_who_is_no_proxy_is_not_believed(server: Any) -> None:
    with through_proxy(server, b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n", "127.0.0.6") as talk:
        assert talk.reply() == ""
    assert '127.0.0.6 is not in `proxy_from` of the smtp listener"' in server.wait_for("connection refused kind=smtp")
    with Talk(server.port(25)) as talk:  # and no other port takes such a header
        talk.send(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 25\r\n")
        assert talk.reply().startswith("500 5.5.1")


def through_proxy(server: Any, header: bytes, source: str) -> Any:
    """A connection from this address that begins with this header."""
    talk = Talk.__new__(Talk)
    talk.sock = socket.create_connection(("127.0.0.1", server.port(24)), timeout=30, source_address=(source, 0))
    talk._got = b""
    talk.send(header)
    return talk


def test_a_client_that_the_policy_turns_away_hears_why_and_is_in_the_records(server: Any) -> None:
    with through_proxy(server, b"PROXY TCP4 192.0.2.66 192.0.2.1 4711 25\r\n", "127.0.0.2") as talk:
        refusal = talk.reply()
        assert refusal.startswith("554 5.7.1 refused by our policy: not from there (") and talk.reply() == ""
    session = refusal.rpartition("(")[2].rstrip(")")
    server.wait_for(f"refused at client id={session}")
    assert "not from there" in server.run("why", session).stdout


def test_a_silent_client_is_told_goodbye(server: Any) -> None:
    with Talk(server.port(25)) as talk:
        assert talk.reply() == "421 4.4.2 mail.office.test nothing came for 3 seconds: closing"
        assert talk.reply() == ""
    server.wait_for('a limit was reached peer=127.0.0.1 reason="nothing came for 3 seconds" id=')


LIMITS = {
    "smtp.errors": ("BAD", 20, "421 4.7.0 20 errors: closing this connection"),
    "smtp.messages": ("RSET\r\nMAIL FROM:<a@x.test>", 4, "421 4.7.0 3 messages over one connection"),
    "smtp.recipients": (f"RCPT TO:<{USER1}>", 102, "452 4.5.3 more than 100 recipients"),
    "smtp.commands": ("NOOP", 151, "421 4.7.0 more than 150 commands: closing this connection"),
    "smtp.size_limit": ("RSET\r\nMAIL FROM:<a@x.test> SIZE=99999999", 1, "552 5.3.4 at most"),
    "a line": ("NOOP " + "x" * 3000, 1, "500 5.5.2 line longer than 2048 octets"),
    "smuggling": ("NOOP\nNOOP", 1, "521 5.5.2 a command must end with CRLF"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_every_limit_is_told_to_the_client_and_to_the_log(server: Any, limit: str) -> None:
    line, times, told = LIMITS[limit]
    with Talk(server.port(25)) as talk:
        talk.send(b"EHLO c.test\r\nMAIL FROM:<a@x.test>\r\n" + f"{line}\r\n".encode() * times + b"QUIT\r\n")
        replies = []
        while reply := talk.reply():
            replies.append(reply)
    assert any(reply.startswith(told) for reply in replies), replies[-3:]
    server.wait_for(f'a limit was reached peer=127.0.0.1 reason="{told}')


# -- what a message carries -----------------------------------------------------------------------------------

FORGED = (
    b"Return-Path: <forged@x.test>\r\nDelivered-To: someone@x.test\r\nX-Mailguard: id=forged; accept\r\n"
    b"Authentication-Results: MAIL.office.test (x);\r\n dmarc=pass header.from=bank.test\r\n"
    b"Authentication-Results: other.test; spf=pass\r\nSubject: forged marks\r\n\r\nx"
)


def test_marks_of_ours_that_came_from_outside_are_gone_and_nothing_is_added(server: Any) -> None:
    with Talk(server.port(25)) as talk:
        talk.open()
        ident = talk.data(FORGED).split()[-1]
        talk.open()
        talk.say(f"RCPT TO:<{USER2}>")
        both = talk.data(b"Subject: to both\r\n\r\nx").split()[-1]
    server.wait_for(f"accepted id={both}")
    (raw,) = [m for m in mails(server, USER1) if b"Subject: forged marks" in m]
    assert raw.startswith(
        b"Return-Path: <ann@example.net>\r\nDelivered-To: user1@office.test\r\nAuthentication-Results: mail."
    )
    assert b"forged@x.test" not in raw and b"id=forged" not in raw and b"bank.test" not in raw
    assert b"Authentication-Results: other.test" in raw and b"Delivered-To: someone@x.test" in raw
    assert b"\r\nDate:" not in raw and b"\r\nMessage-ID:" not in raw
    assert f"with ESMTP id {ident}\r\n\tfor <{USER1}>;".encode() in raw
    for user in (USER1, USER2):
        (raw,) = [m for m in mails(server, user) if b"Subject: to both" in m]
        assert b"\tfor <" not in raw and b"Delivered-To" not in raw  # neither learns of the other


def test_what_comes_from_outside_stays_as_it_is(server: Any) -> None:
    """Octets beyond ASCII in the header, lines of any length, dots, no line end at the end of a header."""
    odd = b"Subject: odd \xe4\xf6\xfc\r\nX-Long: " + b"y" * 3_000 + b"\r\n\r\n" + b"z" * 5_000 + b"\r\n..\r\n.\xff\r\n"
    with Talk(server.port(25)) as talk:
        talk.open(sender="Ann.O'Hara@EXAMPLE.net")
        ident = talk.data(odd.replace(b"\r\n.", b"\r\n..").removesuffix(b"\r\n")).split()[-1]
    server.wait_for(f"delivered id={ident}")
    (raw,) = [m for m in mails(server, USER1) if b"Subject: odd" in m]
    assert raw.startswith(b"Return-Path: <Ann.O'Hara@example.net>\r\n") and raw.endswith(odd)


@pytest.mark.parametrize("before", [49, 50])
def test_a_message_that_goes_in_circles_is_refused(server: Any, before: int) -> None:
    with Talk(server.port(25)) as talk:
        talk.open()
        reply = talk.data(b"Received: from a by b; date\r\n" * before + b"Subject: in circles\r\n\r\nx")
    if before < 50:
        assert reply.startswith("250")
    else:
        assert reply == "554 5.4.6 the message has passed 50 servers: a mail loop"
        server.wait_for('reply="554 5.4.6 the message has passed 50 servers')


def test_many_new_recipients_in_a_day_are_held_until_somebody_lets_them_go(server: Any) -> None:
    with smtptalk.submitting(server, user=USER2) as talk:
        for n in range(3):
            talk.open(f"user1+{n}@office.test", USER2)
            reply = talk.data(f"Subject: new {n}\r\n\r\nx".encode())
            assert reply.startswith("250 2.0.0 taken as ")
    ident = reply.split()[-1]
    assert "new_recipients_per_day of [submission] is 2" in server.wait_for(
        "mail is held: this user sends more than it may"
    )
    assert [has(server, f"new {n}", USER1) for n in range(3)] == [True, True, False]
    assert any(f"Subject: Mail of {USER2} is held".encode() in raw for raw in mails(server, USER1))
    server.run("queue", "--config", str(server.config), "release", "--from", USER2, config=False)
    server.wait_for(f"delivered id={ident} to={USER1} where=INBOX")
    assert has(server, "new 2", USER1)
