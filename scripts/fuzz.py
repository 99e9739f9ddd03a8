"""A mutating fuzzer: protocols in random cuts, parsers of mail, XML, TOML and truth files.

Each target takes octets and must come back, quickly, with no exception but its own kind of error, and what it says
must be well-formed. A failure prints the input, ready to be pasted into a test.
"""

# ruff: noqa: E501 (the seeds stand as they are on the wire)

from __future__ import annotations

import argparse
import contextlib
import random
import re
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from mailguard.model.authresult import drop_forged
from mailguard.model.message import Message
from mailguard.model.mime import parse
from mailguard.model.recode import as_text
from mailguard.model.reply import Reply
from mailguard.pipeline.compiler import parse_policy
from mailguard.pipeline.registry import Registry
from mailguard.pipeline.source import PolicyError
from mailguard.protocol.autoconfig.request import RequestError, parse_pox
from mailguard.protocol.imap.command import State
from mailguard.protocol.imap.describe import describe
from mailguard.protocol.imap.session import IdleDone, ImapSession, Request, SaslBegin, SaslResponse
from mailguard.protocol.imap.session import Offer as ImapOffer
from mailguard.protocol.pop3.event import Offer as Pop3Offer
from mailguard.protocol.pop3.event import Password, Retrieve, StartTls
from mailguard.protocol.pop3.event import SaslBegin as Pop3SaslBegin
from mailguard.protocol.pop3.event import SaslResponse as Pop3SaslResponse
from mailguard.protocol.pop3.maildrop import Entry
from mailguard.protocol.pop3.server import Pop3Session
from mailguard.protocol.smtp.command import Mail, Rcpt
from mailguard.protocol.smtp.event import AuthEvent, CloseEvent, ContentEvent, Profile, StartTlsEvent
from mailguard.protocol.smtp.server import SmtpServer
from mailguard.protocol.wire import NEED_DATA
from mailguard.store.uidlist import Uidlist, UidlistError

ROOT = Path(__file__).resolve().parent.parent
SLOW = 5.0  # seconds for one input
Rng = random.Random
Target = Callable[[bytes, Rng], None]

MAIL = (
    b'Received: from a by b; Mon, 2 Mar 2026 10:00:00 +0000\r\nFrom: =?utf-8?q?J=C3=B6rg?= <j@x.example>, "q\\" (c)" <g@x>\r\n'
    b"Authentication-Results: mx.test; spf=pass\r\nSubject: =?iso-8859-1?B?4Q==?= =?x?q?_?=\r\nTo: group:a@b,c@d;\r\n"
    b"Content-Type: multipart/mixed; boundary=\"b\"; x*0*=utf-8''%41; x*1=z\r\n\r\npre\r\n--b\r\n"
    b"Content-Type: message/rfc822\r\n\r\nSubject: in\r\nContent-Type: multipart/alternative; boundary=c\r\n\r\n--c\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nAAAA\r\n--c\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=41=\r\n=ZZ\r\n--c--\r\n"
    b"--b\r\nContent-Type: text/html; charset=utf-7\r\nContent-Disposition: attachment; filename*=utf-8''a%00.exe\r\n\r\n<a>\r\n--b--\r\n"
)
SMTP = (
    b"EHLO c.example\r\nMAIL FROM:<a@x.example> SIZE=10 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+20y\r\n"
    b"RCPT TO:<b@office.test> NOTIFY=FAILURE,DELAY ORCPT=rfc822;b@x\r\nDATA\r\nSubject: x\r\n\r\n..\r\nx\r\n.\r\n"
    b'RSET\r\nMAIL FROM:<>\r\nRCPT TO:<@a,@b:"q\\"x"@[IPv6:::1]>\r\nBDAT 3 LAST\r\nabcNOOP\r\nVRFY x\r\nAUTH PLAIN AGEAYg==\r\n'
    b"STARTTLS\r\nQUIT\r\n"
)
IMAP = (
    b"a LOGIN {3+}\r\nann \"b\"\r\nb LIST (SUBSCRIBED) \"\" (\"*\" %) RETURN (STATUS (MESSAGES SIZE))\r\n"
    b"c SELECT INBOX (QRESYNC (1 2 3:4 (1 2)))\r\nd UID FETCH 1:*,5 (FLAGS BODY.PEEK[1.2.HEADER.FIELDS (A {1+}\r\nB)]<0.9> "
    b"BINARY[1] PREVIEW (LAZY)) (CHANGEDSINCE 1 VANISHED)\r\ne SEARCH RETURN (MIN MAX) CHARSET UTF-8 OR NOT (FROM x) 1:2 "
    b"SINCE 1-Feb-1994 HEADER A \"\" WITHIN 5 MODSEQ 3\r\nf STORE 1 (UNCHANGEDSINCE 2) +FLAGS.SILENT (\\Seen k)\r\n"
    b"g APPEND x (\\Draft) \"01-Jan-2026 00:00:00 +0000\" {3+}\r\nabc\r\nh IDLE\r\nDONE\r\ni AUTHENTICATE PLAIN =\r\n*\r\n"
    b"j SORT (REVERSE DATE) UTF-8 ALL\r\nk THREAD REFERENCES UTF-8 ALL\r\nl UID MOVE 1:2 &AOk-\r\nm ENABLE CONDSTORE\r\nn LOGOUT\r\n"
)  # fmt: skip
IMAP_MORE = (
    b"a LOGIN ann b\r\nb APPEND x (\\Seen) CATENATE (URL \"/a%2Fb;UIDVALIDITY=1/;UID=2/;SECTION=1.MIME/;PARTIAL=0.5\" TEXT {2+}\r\nab) "
    b"\"01-Jan-2026 00:00:00 +0000\" ~{3+}\r\na\0b\r\nc REPLACE * x {1+}\r\na\r\nd NOTIFY SET STATUS (SELECTED (MessageNew (UID BODY.PEEK[TEXT]) "
    b"MessageExpunge)) (SUBTREE (a \"b c\") (MailboxName SubscriptionChange)) (PERSONAL NONE)\r\ne SETMETADATA \"\" (/private/x {1+}\r\na /shared/y NIL)\r\n"
    b"f GETMETADATA (DEPTH 1 MAXSIZE 5) INBOX (/private /shared/z)\r\ng SEARCH RETURN (SAVE PARTIAL -1:-5 COUNT) CHARSET x TEXT {1+}\r\nb\r\n"
    b"h UID SORT RETURN (UPDATE) (DISPLAYFROM) UTF-8 $\r\ni UID FETCH $ (BINARY.SIZE[1] EMAILID) (PARTIAL 1:2)\r\nj CREATE y (USE (\\Sent))\r\n"
    b"k SETACL x y +lr\r\nl SETQUOTA \"\" (STORAGE 1)\r\nm CANCELUPDATE \"g\"\r\nn COMPRESS DEFLATE\r\n"
)  # fmt: skip
POP3 = b"CAPA\r\nUSER ann\r\nPASS b\r\nSTAT\r\nLIST 1\r\nUIDL\r\nRETR 1\r\nTOP 1 0\r\nDELE 1\r\nRSET\r\nAUTH PLAIN AGEAYg==\r\nUTF8\r\nQUIT\r\n"
POX = b'<?xml version="1.0"?><Autodiscover xmlns="x"><Request><EMailAddress>a@b.test</EMailAddress></Request></Autodiscover>'
UIDLIST = b"3 V1400000000 N6 G0123456789abcdef0123456789abcdef\n1 W40 :a.M1P1.host,S=40:2,\n3 P2 X :b.host\n"


def smtp(data: bytes, rng: Rng) -> None:
    """Replies only, and never a message with a bare CR or LF in it."""
    server = SmtpServer(Profile("mx.test", size_limit=1000, rcpt_max=5, starttls=True, mechanisms=("PLAIN",)))
    server.greet()
    out = b""
    for piece in cuts(data, rng):
        server.receive_data(piece)
        while (event := server.next_event()) is not NEED_DATA and not isinstance(event, CloseEvent):
            if isinstance(event, StartTlsEvent):
                server.secured(["PLAIN"])
            elif isinstance(event, ContentEvent) and event.flaw is not None:
                server.send(event.flaw, close=True)
            elif isinstance(event, (ContentEvent, Mail, Rcpt, AuthEvent)):
                if isinstance(event, ContentEvent):
                    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", event.raw), "a bare CR or LF got through"
                server.send(rng.choice((Reply.of(250, "2.0.0", "ok"), Reply.of(450, "4.0.0", "later"))))
        out += server.data_to_send()
    assert re.fullmatch(rb"([2-5]\d\d[ -][^\r\n]*\r\n)*", out), out


def imap(data: bytes, rng: Rng) -> None:
    """Every line of output has CRLF and a tag or a star."""
    offer = ImapOffer(("PLAIN",), cleartext=True, starttls=True, capabilities=("IDLE",), append_limit=10_000)
    session = ImapSession(offer)
    out = session.take_output()
    for piece in cuts(data, rng):
        session.receive_data(piece)
        while (event := session.next_event()) is not NEED_DATA:
            if isinstance(event, Request) and event.name == "IDLE":
                session.idling()
            elif isinstance(event, Request) and event.name == "LOGIN":
                session.signed_in(offer)
                session.state = State.SELECTED
            elif isinstance(event, (SaslBegin, SaslResponse)):
                session.challenge(b"")
            elif isinstance(event, (Request, IdleDone)):
                rng.choice((session.ok, session.no, session.bad))("as you say")
            if session.state is State.LOGOUT:
                break
        out += session.take_output()
    assert out.endswith(b"\r\n"), out


def pop3(data: bytes, rng: Rng) -> None:
    """Status lines and multi-line answers only."""
    session = Pop3Session(Pop3Offer(("PLAIN",), cleartext=True, stls=True))
    out = session.take_output()
    for piece in cuts(data, rng):
        session.receive_data(piece)
        while (event := session.next_event()) is not NEED_DATA:
            if isinstance(event, (Password, Pop3SaslResponse)):
                session.opened([Entry(1, 10, "one"), Entry(2, 10, "two")])
            elif isinstance(event, Pop3SaslBegin):
                session.challenge(b"")
            elif isinstance(event, StartTls):
                session.tls_started(Pop3Offer(("PLAIN",), cleartext=True))
            elif isinstance(event, Retrieve):
                session.message(event, b"Subject: x\r\n\r\n.\r\n")
            else:
                session.closed()
        out += session.take_output()
    assert out.startswith(b"+OK") and out.endswith(b"\r\n"), out


def message(data: bytes, rng: Rng) -> None:
    """Descriptions and parts of any octets at all; ENVELOPE's parentheses match."""
    found = describe(data)
    for text in (found.envelope, found.bodystructure):
        bare = re.sub(rb"\{(\d+)\}\r\n", b"", re.sub(rb'"(?:[^"\\]|\\.)*"', b'""', text, flags=re.S))
        assert b"{" in text or bare.count(b"(") == bare.count(b")"), text
    for part in parse(data).walk():
        part.filename, part.text(1000), part.content(1000)
    as_text(data)
    drop_forged(Message(data), "mx.test").fields  # noqa: B018


def autodiscover(data: bytes, rng: Rng) -> None:
    """RequestError or a request."""
    with contextlib.suppress(RequestError):
        parse_pox(data)


def policy(data: bytes, rng: Rng) -> None:
    """PolicyError, with at least one problem, or a policy."""
    plugins = Registry(ROOT / "nowhere")
    try:
        parse_policy("policy.toml", data.decode("utf-8", "replace"), plugins.load, plugins.names)
    except PolicyError as error:
        assert error.problems


def uidlist(data: bytes, rng: Rng) -> None:
    """UidlistError, or a list that is the same once written and read again."""
    try:
        first = Uidlist.parse(data.decode("utf-8", "surrogateescape"))
    except UidlistError:
        return
    again = Uidlist.parse(first.render())
    assert again.records == first.records and again.next_uid == first.next_uid


TARGETS: dict[str, tuple[Target, list[bytes]]] = {
    "smtp": (smtp, [SMTP, SMTP + MAIL]),
    "imap": (imap, [IMAP, IMAP_MORE]),
    "pop3": (pop3, [POP3]),
    "message": (message, [MAIL]),
    "autodiscover": (autodiscover, [POX]),
    "policy": (policy, [(ROOT / "conf/policy.toml").read_bytes()]),
    "uidlist": (uidlist, [UIDLIST]),
}
TOKENS = [b"\r\n", b"\n", b"\r", b"\0", b".", b"\r\n.\r\n", b'"', b"\\", b"(", b")", b"{999999999}", b"{3+}\r\n", b"<", b">", b"@",
          b"%s", b"\xff", b"\xc3\xa9", b"=?", b"?=", b"--", b";", b":", b"*", b"-1", b"18446744073709551616", b"A" * 3000]  # fmt: skip


def cuts(data: bytes, rng: Rng) -> list[bytes]:
    """The data in random pieces, sometimes octet by octet."""
    if rng.random() < 0.1 and len(data) < 2000:
        return [data[i : i + 1] for i in range(len(data))]
    at = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(6)))
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]


def mutated(seed: bytes, rng: Rng) -> bytes:
    """A few random edits: tokens put in, octets changed, spans deleted, doubled or moved."""
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 3, 8, 30))):
        a = rng.randrange(len(data) + 1)
        b = min(len(data), a + rng.choice((1, 2, 5, 40, 200)))
        match rng.randrange(5):
            case 0:
                data[a:a] = rng.choice(TOKENS)
            case 1 if data and a < len(data):
                data[a] = rng.randrange(256)
            case 2:
                del data[a:b]
            case 3:
                data[a:a] = data[a:b] * rng.choice((1, 2, 50))
            case _:
                span = data[a:b]
                del data[a:b]
                at = rng.randrange(len(data) + 1)
                data[at:at] = span
    return bytes(data[:100_000])


def fuzz(name: str, seconds: float, seed: int) -> None:
    """Feeds one target. Raises SystemExit at the first failure."""
    target, seeds = TARGETS[name]
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        rng = random.Random(f"{seed}-{name}-{count}")
        data = mutated(rng.choice(seeds), rng)
        began = time.monotonic()
        try:
            target(data, rng)
        except Exception:
            traceback.print_exc()
            raise SystemExit(f"{name} failed at input {count} of seed {seed}:\n{data!r}") from None
        if time.monotonic() - began > SLOW:
            raise SystemExit(f"{name} took more than {SLOW:g} s at input {count} of seed {seed}:\n{data!r}")
        count += 1
    print(f"{name}: {count} inputs, seed {seed}: nothing found")


def main() -> None:
    """Fuzzes the targets named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="*", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    for name in options.target or TARGETS:
        if name not in TARGETS:
            raise SystemExit(f"there is no target {name!r}; there are: {', '.join(TARGETS)}")
        fuzz(name, options.seconds, options.seed)


if __name__ == "__main__":
    main()
