"""Commands in, events and answers out: order, states, literals, mistakes."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailguard.protocol.imap import search
from mailguard.protocol.imap.append import Append, Upload
from mailguard.protocol.imap.arguments import Create, Login, Resync, Select
from mailguard.protocol.imap.change import Copy, Store
from mailguard.protocol.imap.command import State
from mailguard.protocol.imap.fetch import Attribute, Fetch, Section
from mailguard.protocol.imap.listing import List
from mailguard.protocol.imap.searchgrammar import Search
from mailguard.protocol.imap.sequence import SequenceSet
from mailguard.protocol.imap.session import IdleDone, ImapSession, Offer, Request, SaslBegin, SaslResponse
from mailguard.protocol.wire import NEED_DATA

OFFER = Offer(("PLAIN",), cleartext=True, starttls=True, capabilities=("IDLE", "MOVE"), append_limit=10_000)


def signed_in(*, selected: bool = True) -> ImapSession:
    session = ImapSession(OFFER)
    session.receive_data(b"a LOGIN ann secret\r\n")
    assert isinstance(session.next_event(), Request)
    session.signed_in(OFFER)
    if selected:
        session.state = State.SELECTED
    session.take_output()
    return session


def arguments(line: bytes, *, selected: bool = True) -> object:
    session = signed_in(selected=selected)
    session.receive_data(b"b " + line + b"\r\n")
    event = session.next_event()
    assert isinstance(event, Request), session.take_output()
    return event.arguments


def refusal(line: bytes) -> bytes:
    session = signed_in()
    session.receive_data(b"b " + line + b"\r\n")
    assert session.next_event() is NEED_DATA
    return session.take_output()


def test_greeting_says_what_is_on_offer() -> None:
    out = ImapSession(OFFER).take_output()
    assert out.startswith(b"* OK [CAPABILITY IMAP4rev1 LITERAL- SASL-IR ID ENABLE AUTH=PLAIN STARTTLS] ")
    assert b"LOGINDISABLED" in ImapSession(Offer()).take_output()
    second = ImapSession(Offer(capabilities=("IDLE", "IMAP4rev2"))).take_output()
    assert b" ENABLE IMAP4rev2 " in second and b"IDLE" not in second


def test_sign_in_with_literals() -> None:
    session = ImapSession(OFFER)
    session.take_output()
    session.receive_data(b"a login {3}\r\n")
    assert session.next_event() is NEED_DATA
    assert session.take_output() == b"+ go on\r\n"
    session.receive_data(b'ann "sec\\"ret"\r\n')
    event = session.next_event()
    assert isinstance(event, Request) and event.arguments == Login("ann", 'sec"ret')
    session.no("wrong", "AUTHENTICATIONFAILED")
    assert session.take_output() == b"a NO [AUTHENTICATIONFAILED] wrong\r\n"


def test_capabilities_hidden_from_an_account() -> None:
    session = ImapSession(OFFER)
    session.receive_data(b"a LOGIN ann secret\r\n")
    session.next_event()
    session.signed_in(Offer(capabilities=("IDLE", "MOVE"), hidden=frozenset(("MOVE",))))
    assert b" IDLE " in session.capability() and b"MOVE" not in session.capability()


def test_sasl_goes_step_by_step() -> None:
    session = ImapSession(OFFER)
    session.take_output()
    session.receive_data(b"a AUTHENTICATE plain =\r\n")
    assert session.next_event() == SaslBegin("PLAIN", b"")
    session.challenge(b"hi")
    assert session.take_output() == b"+ aGk=\r\n"
    session.receive_data(b"AGE=\r\n")
    assert session.next_event() == SaslResponse(b"\0a")
    session.challenge(b"")
    session.receive_data(b"*\r\n")
    assert session.next_event() is NEED_DATA
    assert session.take_output().endswith(b"a BAD the client gave up\r\n")
    session.receive_data(b"b NOOP\r\n")
    assert isinstance(session.next_event(), Request)


def test_idle_and_done() -> None:
    session = signed_in()
    session.receive_data(b"b IDLE\r\nDONE\r\nc NOOP\r\n")
    session.next_event()
    session.idling()
    assert isinstance(session.next_event(), IdleDone)
    session.ok()
    assert session.take_output() == b"+ idling\r\nb OK done\r\n"
    assert isinstance(session.next_event(), Request)


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"NONSENSE", b"b BAD no command NONSENSE\r\n"),
        (b"LOGIN a b", b"b BAD LOGIN is not for now (with a mailbox selected)\r\n"),
        (b"FETCH 0 FLAGS", b"b BAD '0' is not a sequence set\r\n"),
        (b"NOOP x", b"b BAD unexpected ' x' at the end of the command\r\n"),
        (b"SEARCH CHARSET klingon ALL", b"b NO [BADCHARSET (UTF-8 US-ASCII)] charset 'klingon' is not known\r\n"),
        (b"SELECT p&x", b"b NO [CANNOT] 'p&x' is not a mailbox name in modified UTF-7\r\n"),
        (b'LIST (RECURSIVEMATCH) "" *', b"b BAD RECURSIVEMATCH needs an option to match (RFC 5258 section 3)\r\n"),
        (b"STORE 1 FLAGS (\\Foo)", b"b BAD no system flag \\Foo\r\n"),
    ],
)
def test_mistakes_are_answered_here(line: bytes, answer: bytes) -> None:
    assert refusal(line) == answer


def test_a_deep_search_is_refused() -> None:
    assert b"NO [LIMIT]" in refusal(b"SEARCH " + b"(" * 60 + b"ALL" + b")" * 60)
    assert b"NO [LIMIT]" in refusal(b"SEARCH " + b"NOT " * 60 + b"ALL")


def test_many_mistakes_end_the_connection() -> None:
    session = signed_in()
    session.receive_data(b"x FOO\r\n" * 30)
    assert session.next_event() is NEED_DATA
    assert session.state is State.LOGOUT
    assert session.take_output().endswith(b"* BYE too many mistakes\r\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"SELECT inbox", Select("INBOX", False)),
        (b"EXAMINE p&AOQA5A- (CONDSTORE)", Select("pää", True, condstore=True)),
        (
            b"SELECT a (QRESYNC (7 9 1:3 (1,2 3,4)))",
            Select("a", False, resync=Resync(7, 9, *[SequenceSet.parse(s) for s in ("1:3", "1,2", "3,4")])),
        ),
        (b"CREATE x (USE (\\Sent))", Create("x", ("\\Sent",))),
        (b"COPY 1:* x", Copy(SequenceSet(((1, 0),)), "x", False)),
        (b"UID MOVE $ x", Copy(None, "x", True)),
        (b"STORE 1 +FLAGS.SILENT (\\SEEN foo)", Store(SequenceSet(((1, 1),)), "+", ("\\Seen", "foo"), True, False)),
        (
            b"STORE 1 (UNCHANGEDSINCE 5) FLAGS \\Seen",
            Store(SequenceSet(((1, 1),)), "=", ("\\Seen",), False, False, unchanged_since=5),
        ),
        (
            b'LIST "" (a b) RETURN (STATUS (MESSAGES) CHILDREN)',
            List("", ("a", "b"), returns=frozenset(("STATUS", "CHILDREN")), status=("MESSAGES",), extended=True),
        ),
        (
            b'APPEND x (\\Seen) "01-Feb-2026 12:00:00 +0100" {2+}\r\nab',
            Append("x", (Upload(b"ab", ("\\Seen",), 1769943600.0),)),
        ),
        (b"APPEND x {1+}\r\na {2+}\r\nbc", Append("x", (Upload(b"a"), Upload(b"bc")))),
        (b"APPEND x {1+}\r\na {0+}\r\n", Append("x", ())),
    ],
)
def test_arguments(line: bytes, expected: object) -> None:
    assert arguments(line) == expected


def test_fetch_items() -> None:
    found = arguments(
        b'UID FETCH 1:3,* (FLAGS BODY.PEEK[1.2.HEADER.FIELDS (From "To")]<5.10> BODY PREVIEW (LAZY) FLAGS)'
    )
    label = b"BODY[1.2.HEADER.FIELDS (From To)]<5>"
    assert found == Fetch(
        SequenceSet(((1, 3), (0, 0))),
        (
            Attribute("UID"),
            Attribute("FLAGS"),
            Section("BODY", (1, 2), "HEADER.FIELDS", label, (b"From", b"To"), (5, 10), True),
            Attribute("BODY"),
            Attribute("PREVIEW"),
        ),
        True,
    )  # fmt: skip
    assert b"BAD" in refusal(b"FETCH 1 BODY[MIME]")
    assert b"BAD" in refusal(b"FETCH 1 BODY[0]")
    assert b"BAD" in refusal(b"FETCH 1 (FLAGS")
    assert b"BAD" in refusal(b"FETCH 1 FLAGS (VANISHED)")


def test_search_keys() -> None:
    found = arguments(
        b"UID SEARCH RETURN (MIN COUNT) CHARSET utf-8 OR SEEN NOT (FROM {3+}\r\n\xc3\xa4x 1,3) SINCE 1-Feb-2026"
    )
    assert found == Search(
        search.And((
            search.Or(
                search.Flag("\\Seen"),
                search.Not(search.And((search.Header("from", "äx"), search.Numbers(SequenceSet.parse("1,3"))))),
            ),
            search.Date("internal", "since", datetime.date(2026, 2, 1)),
        )),
        True,
        ("MIN", "COUNT"),
    )  # fmt: skip


def test_append_is_refused_before_its_octets_are_read() -> None:
    session = signed_in()
    session.receive_data(b"b APPEND x {20000}\r\n")
    assert session.next_event() is NEED_DATA
    assert session.take_output().startswith(b"b NO [TOOBIG] a literal of 20000 octets is over the limit of")


@given(st.lists(st.integers(1, 40), max_size=30))
def test_any_cut_gives_the_same_events(cuts: list[int]) -> None:
    text = b"b NOOP\r\nc SELECT {5+}\r\nInbox\r\nd FETCH 1 (FLAGS BODY[TEXT])\r\ne SEARCH TEXT {1}\r\nx\r\nBAD\r\n"
    session, whole = signed_in(), signed_in()
    events: list[object] = []
    while text or cuts:
        size = cuts.pop() if cuts else len(text)
        session.receive_data(text[:size])
        whole.receive_data(text[:size])
        text = text[size:]
        while (event := session.next_event()) is not NEED_DATA:
            events.append(event)
            session.ok()
    assert [event.name for event in events if isinstance(event, Request)] == ["NOOP", "SELECT", "FETCH", "SEARCH"]
    assert session.take_output().count(b"\r\n") == 6


@given(st.binary(max_size=200))
def test_nothing_leaves_the_session(data: bytes) -> None:
    session = signed_in()
    session.receive_data(b"b " + data + b"\r\n")
    while session.next_event() is not NEED_DATA:
        session.ok()
