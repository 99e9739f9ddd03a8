from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.model.address import Address
from mailguard.protocol.smtp.command import POSTMASTER, Auth, Bdat, Hello, Mail, Rcpt, Simple, Xclient, parse
from mailguard.protocol.wire import ProtocolError


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"ehlo client.example", Hello("EHLO", "client.example")),
        (b"DATA", Simple("DATA")),
        (b"noop whatever", Simple("NOOP")),
        (b"MAIL FROM:<>", Mail(None)),
        (b"mail from:<Ann@EXAMPLE.net> SIZE=12 BODY=8BITMIME", Mail(Address("Ann", "example.net"), 12, True)),
        (b'MAIL FROM:<"a> b"@example.net>', Mail(Address("a> b", "example.net"))),
        (b"MAIL FROM:<a@e.net> AUTH=<> RET=hdrs ENVID=x+2B", Mail(Address("a", "e.net"), ret="HDRS", envid="x+2B")),
        (b"MAIL FROM:<a@e.net> HOLDUNTIL=2026-12-31T00:00:00Z", Mail(Address("a", "e.net"), hold_until=1798675200)),
        ("MAIL FROM:<ä@example.net> SMTPUTF8".encode(), Mail(Address("ä", "example.net"), smtputf8=True)),
        (b"BDAT 0 LAST", Bdat(0, True)),
        (b"AUTH plain =", Auth("PLAIN", b"")),
        (b"AUTH LOGIN", Auth("LOGIN", None)),
        (b"XCLIENT ADDR=192.0.2.1 NAME=[UNAVAILABLE]", Xclient({"ADDR": "192.0.2.1", "NAME": ""})),
    ],
)  # fmt: skip
def test_reads(line, command):
    assert parse(line) == command


@pytest.mark.parametrize(
    ("line", "address"),
    [
        (b"RCPT TO:<PostMaster>", POSTMASTER),
        (b"RCPT TO:<@a.example,@b.example:c@d.example>", Address("c", "d.example")),
        (b"RCPT TO:<u%other.example@ours.example>", Address("u%other.example", "ours.example")),
        (b'RCPT TO:<"u@other.example"@ours.example>', Address("u@other.example", "ours.example")),
        (b"RCPT TO:<u@[IPv6:2001:DB8::1]>", Address("u", "[IPv6:2001:db8::1]")),
    ],
)
def test_recipients_are_never_taken_apart(line, address):
    command = parse(line)
    assert isinstance(command, Rcpt) and command.recipient.address == address


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"FOO", 500), (b"", 500), (b"\xff", 500), (b"NOOP \0", 500), (b"NOOP a\rb", 500),
        (b"DATA now", 501), (b"EHLO", 501), (b"MAIL FROM:a@b.example", 501), (b"MAIL FROM:<a@b.example", 501),
        (b"MAIL FROM:<a>", 501), (b"RCPT TO:<>", 501), (b"RCPT TO:<host!user>", 501), (b"RCPT TO:<a@b@c.example>", 501),
        (b"MAIL FROM:<a@b.example>SIZE=1", 501), (b"MAIL FROM:<a@b.example> FOO=1", 555),
        (b"RCPT TO:<a@b.example> X", 555),
        (b"MAIL FROM:<a@b.example> SIZE=1 SIZE=2", 501), (b"MAIL FROM:<a@b.example> BODY=BINARYMIME", 501),
        (b"MAIL FROM:<a@b.example> HOLDFOR=1 HOLDUNTIL=2026-12-31T00:00:00Z", 501),
        (b"MAIL FROM:<a@b.example> ENVID=a+2b", 501), (b"RCPT TO:<a@b.example> NOTIFY=NEVER,DELAY", 501),
        (b"RCPT TO:<a@b.example> ORCPT=rfc822;" + b"x" * 500, 501), (b"AUTH", 501), (b"AUTH PLAIN !!", 501),
        ("MAIL FROM:<ä@b.example>".encode(), 553), (b"BDAT", 501), (b"BDAT -1", 501), (b"BDAT 5 FIRST", 501),
    ],
)  # fmt: skip
def test_refuses(line, code):
    with pytest.raises(ProtocolError) as caught:
        parse(line)
    assert caught.value.reply is not None and caught.value.reply.code == code
    assert caught.value.fatal == line.startswith(b"BDAT")


@given(
    st.sampled_from([b"", b"MAIL FROM:", b"RCPT TO:<", b"AUTH ", b"XCLIENT ", b"BDAT ", b"MAIL FROM:<> HOLDUNTIL="]),
    st.binary(max_size=80),
)
def test_only_protocol_errors_leave(prefix, rest):
    try:
        parse(prefix + rest)
    except ProtocolError as error:
        assert error.reply is not None and error.reply.permanent
