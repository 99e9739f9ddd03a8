"""IMAP over loopback sockets and a real Maildir: what every client does, and what the RFCs say of it."""

from __future__ import annotations

import base64
import contextlib
import ssl
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imapoffice
import pytest
from scramp import ScramClient

MAIL = (
    b"From: Bob <bob@example.org>\r\nTo: ann@office.test\r\nSubject: hello %d\r\n"
    b"Date: Mon, 2 Feb 2026 10:00:00 +0000\r\nMessage-ID: <%d@example.org>\r\n\r\nline of message %d\r\n"
)


@pytest.fixture
def ann(office: Any) -> Iterator[Any]:
    """Signed in, three messages in the INBOX, nothing selected."""
    with office.bare() as client:
        for n in (1, 2, 3):
            assert client.append("INBOX", MAIL % (n, n, n)).startswith(b"OK [APPENDUID ")
        yield client


def test_python_s_own_client(office: Any) -> None:
    client = office.library()
    assert client.append("INBOX", "(\\Seen)", None, MAIL % (1, 1, 1))[0] == "OK"
    assert client.select()[1] == [b"1"]
    _, found = client.fetch("1", "(FLAGS BODY[])")
    assert found[0][1] == MAIL % (1, 1, 1)
    assert client.uid("STORE", "1", "+FLAGS", "(\\Deleted)")[0] == "OK"
    assert client.expunge()[1] == [b"1"]
    assert client.list()[0] == "OK"
    client.logout()


def test_starttls_and_scram(office: Any) -> None:
    import imaplib

    client = imaplib.IMAP4("127.0.0.1", office.imap, timeout=20)
    client.starttls(imapoffice.trusting())
    scram = ScramClient(["SCRAM-SHA-256"], imapoffice.USER, imapoffice.PASSWORD)
    steps = iter((lambda _: scram.get_client_first(), _final(scram), _end(scram)))
    assert client.authenticate("SCRAM-SHA-256", lambda data: next(steps)(data).encode())[0] == "OK"
    client.logout()


def _final(scram: ScramClient) -> Any:
    def step(data: bytes) -> str:
        scram.set_server_first(data.decode())
        return str(scram.get_client_final())

    return step


def _end(scram: ScramClient) -> Any:
    def step(data: bytes) -> str:
        scram.set_server_final(data.decode())
        return ""

    return step


def test_plain_with_initial_response_and_wrong_passwords(office: Any) -> None:
    with office.bare(sign_in=False) as client:
        assert b"AUTH=PLAIN" in client.greeting
        assert client.command(f"LOGIN {imapoffice.USER} wrong")[1].startswith(b"NO [AUTHENTICATIONFAILED]")
        response = base64.b64encode(f"\0{imapoffice.USER}\0{imapoffice.PASSWORD}".encode()).decode()
        assert client.command(f"AUTHENTICATE PLAIN {response}")[1].startswith(b"OK [CAPABILITY IMAP4rev1")
        assert client.command("LOGIN a b")[1].startswith(b"BAD")
        assert b"PREVIEW" not in client.ok("CAPABILITY")[0]  # hidden from this account


def test_nothing_sent_before_tls_counts(office: Any) -> None:
    with office.bare(sign_in=False) as client:
        client.send(b"a STARTTLS\r\nb LOGIN x y\r\n")
        assert client.line().startswith(b"a OK")
        sock = imapoffice.trusting().wrap_socket(client.sock, server_hostname="localhost")
        sock.sendall(b"c NOOP\r\n")
        assert sock.recv(100).startswith(b"c OK")
        with contextlib.suppress(ssl.SSLError, OSError):
            sock.close()


def test_select_says_everything(ann: Any) -> None:
    lines = ann.ok("SELECT INBOX")
    assert lines[0] == b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)"
    assert b"* 3 EXISTS" in lines and b"* 3 RECENT" in lines
    assert any(line.startswith(b"* OK [UNSEEN 1]") for line in lines)
    assert any(line.startswith(b"* OK [UIDNEXT 4]") for line in lines)
    assert any(line.startswith(b"* OK [PERMANENTFLAGS (") and b"\\*" in line for line in lines)
    assert ann.command("EXAMINE INBOX")[1].startswith(b"OK [READ-ONLY]")
    assert ann.command("SELECT nowhere")[1].startswith(b"NO [NONEXISTENT]")
    assert ann.command("FETCH 1 FLAGS")[1].startswith(b"BAD")  # a failed SELECT leaves nothing selected


def test_fetch_everything(ann: Any) -> None:
    ann.ok("SELECT INBOX")
    (line,) = ann.ok("FETCH 2 (UID RFC822.SIZE ENVELOPE BODYSTRUCTURE INTERNALDATE)")
    assert line.startswith(b"* 2 FETCH (UID 2 RFC822.SIZE %d ENVELOPE (" % len(MAIL % (2, 2, 2)))
    assert b'BODYSTRUCTURE ("text" "plain" ("charset" "us-ascii") NIL NIL "7bit" 19 1 NIL NIL NIL NIL)' in line
    (line,) = ann.ok("FETCH 1 BODY.PEEK[HEADER.FIELDS (Subject)]")
    assert line == b"* 1 FETCH (BODY[HEADER.FIELDS (Subject)] {20}\r\nSubject: hello 1\r\n\r\n)"
    (line,) = ann.ok("FETCH 1 BODY[TEXT]<5.2>")
    assert line == b"* 1 FETCH (FLAGS (\\Seen \\Recent) BODY[TEXT]<5> {2}\r\nof)"
    (line,) = ann.ok("FETCH 1 (BODY[1] BODY[2] BINARY.SIZE[1] PREVIEW)")
    assert b"BODY[1] {19}\r\nline of message 1\r\n BODY[2] NIL BINARY.SIZE[1] 19" in line
    assert b'PREVIEW "line of message 1"' in line
    assert len(ann.ok("UID FETCH 1:* FLAGS")) == 3
    assert ann.ok("UID FETCH 7:9 FLAGS") == []
    assert ann.command("FETCH 4 FLAGS")[1].startswith(b"BAD")


def test_store_and_expunge_reach_the_other_session(office: Any, ann: Any) -> None:
    ann.ok("SELECT INBOX")
    with office.bare() as other:
        other.ok("SELECT INBOX")
        assert ann.ok("STORE 1 +FLAGS (\\Deleted $Label)")[1:] == [
            b"* 1 FETCH (UID 1 FLAGS (\\Deleted $Label \\Recent))"
        ]
        assert ann.ok("STORE 2 +FLAGS.SILENT \\Flagged") == []
        assert other.ok("NOOP") == [
            b"* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft $Label)",
            b"* 1 FETCH (UID 1 FLAGS (\\Deleted $Label))",
            b"* 2 FETCH (UID 2 FLAGS (\\Flagged))",
        ]
        assert ann.ok("EXPUNGE") == [b"* 1 EXPUNGE"]
        # Message numbers stay during FETCH, and the message is gone.
        assert other.command("FETCH 1 RFC822.SIZE")[1].startswith(b"NO [EXPUNGEISSUED]")
        assert other.ok("FETCH 2 UID") == [b"* 2 FETCH (UID 2)"]
        assert other.ok("NOOP") == [b"* 1 EXPUNGE"]
        assert other.ok("FETCH 1 UID") == [b"* 1 FETCH (UID 2)"]


def test_copy_and_move(ann: Any) -> None:
    ann.ok("SELECT INBOX")
    assert ann.command("COPY 1 nowhere")[1].startswith(b"NO [TRYCREATE]")
    result = ann.command("COPY 1:2 Archive")[1]
    assert result.startswith(b"OK [COPYUID ") and b" 1:2 1:2]" in result
    lines = ann.ok("UID MOVE 2:3 Junk")
    assert lines[0].startswith(b"* OK [COPYUID ") and lines[1:] == [b"* 2 EXPUNGE", b"* 2 EXPUNGE"]
    assert ann.ok("STATUS Junk (MESSAGES UIDNEXT UNSEEN SIZE)") == [
        b"* STATUS Junk (MESSAGES 2 UIDNEXT 3 UNSEEN 2 SIZE %d)" % (2 * len(MAIL % (1, 1, 1)))
    ]


def test_mailboxes(ann: Any) -> None:
    assert b'* LIST (\\HasNoChildren \\Junk) "/" Junk' in ann.ok('LIST "" *')
    ann.ok("CREATE p&AOQA5A-/sub")
    assert ann.ok('LIST "" p*') == [
        b'* LIST (\\HasNoChildren) "/" p&AOQA5A-/sub',
        b'* LIST (\\Noselect \\HasChildren) "/" p&AOQA5A-',
    ]
    assert ann.command("CREATE p&AOQA5A-/sub")[1].startswith(b"NO [ALREADYEXISTS]")
    ann.ok("RENAME p&AOQA5A-/sub other")
    ann.ok("SUBSCRIBE other")
    assert ann.ok('LSUB "" oth*') == [b'* LSUB () "/" other']
    ann.ok("DELETE other")
    assert ann.ok('LIST (SUBSCRIBED) "" oth*') == [b'* LIST (\\NonExistent \\HasNoChildren \\Subscribed) "/" other']
    assert ann.ok("NAMESPACE") == [b'* NAMESPACE (("" "/")) NIL NIL']
    assert ann.ok('LIST "" "" RETURN (STATUS (MESSAGES))') == []
    assert ann.ok('LIST "" INBOX RETURN (STATUS (MESSAGES))')[1] == b"* STATUS INBOX (MESSAGES 3)"


def test_searches(ann: Any) -> None:
    ann.ok("SELECT INBOX")
    ann.ok("STORE 2 +FLAGS.SILENT \\Seen")
    assert ann.ok("SEARCH UNSEEN") == [b"* SEARCH 1 3"]
    assert ann.ok('UID SEARCH SUBJECT "HELLO 2"') == [b"* SEARCH 2"]
    assert ann.ok("SEARCH BODY message OR 1 NOT FROM bob") == [b"* SEARCH 1"]
    assert ann.ok("SEARCH SENTON 2-Feb-2026 LARGER 10 2:*") == [b"* SEARCH 2 3"]
    assert ann.ok("SEARCH RETURN (MIN COUNT SAVE) ALL") == [b'* ESEARCH (TAG "t11") MIN 1 COUNT 3']
    assert ann.ok("FETCH $ UID")[0] == b"* 1 FETCH (UID 1)"
    assert ann.ok("UID SEARCH RETURN (PARTIAL -1:-2) ALL") == [b'* ESEARCH (TAG "t13") UID PARTIAL (-1:-2 2:3)']
    assert ann.ok("SORT (REVERSE SUBJECT) UTF-8 ALL") == [b"* SORT 3 2 1"]
    assert ann.ok("THREAD REFERENCES UTF-8 ALL") == [b"* THREAD (1)(2)(3)"]


def test_idle_tells_of_new_mail(office: Any, ann: Any) -> None:
    ann.ok("SELECT INBOX")
    ann.send(b"i IDLE\r\n")
    assert ann.line() == b"+ idling"
    office.store.deliver([MAIL % (4, 4, 4)])
    assert ann.line() == b"* 4 EXISTS"
    assert ann.line() == b"* 4 RECENT"
    ann.send(b"DONE\r\n")
    assert ann.line() == b"i OK idle is over"


def test_append_and_its_limits(ann: Any) -> None:
    assert ann.append("nowhere", b"x").startswith(b"NO [TRYCREATE]")
    result = ann.command(b"APPEND INBOX {60000000}\r\n")[1]
    assert result.startswith(b"NO [TOOBIG]")
    result = ann.command(b'APPEND INBOX (\\Flagged) "01-Feb-2026 12:00:00 +0100" {4+}\r\nA:b\n {5+}\r\nC: d\n')[1]
    assert result.startswith(b"OK [APPENDUID ") and result.endswith(b" 4:5] appended")
    ann.ok("SELECT INBOX")
    (line,) = ann.ok("FETCH 4 (INTERNALDATE FLAGS BODY.PEEK[])")
    assert b'INTERNALDATE "01-Feb-2026 11:00:00 +0000" FLAGS (\\Flagged \\Recent) BODY[] {5}\r\nA:b\r\n' in line


def test_replace(ann: Any) -> None:
    ann.ok("SELECT INBOX")
    lines = ann.ok(b"REPLACE 2 INBOX (\\Draft) {4+}\r\nA: b")
    assert lines[0].startswith(b"* OK [APPENDUID ")
    assert lines[1:] == [b"* 2 EXPUNGE", b"* 3 EXISTS", b"* 3 RECENT"]


def test_hundreds_of_pipelined_commands(ann: Any) -> None:
    ann.send(b"s SELECT INBOX\r\n" + b"".join(b"p%d FETCH 1:* FLAGS\r\n" % n for n in range(500)) + b"e NOOP\r\n")
    lines = []
    while not lines or not lines[-1].startswith(b"e "):
        lines.append(ann.line())
    assert sum(b" FETCH (" in line for line in lines) == 1500


def test_idle_sessions_wait_without_a_thread_and_hear_at_once(office: Any, ann: Any) -> None:
    ann.ok("SELECT INBOX")
    ann.send(b"i IDLE\r\n")
    assert ann.line() == b"+ idling"
    while not len(office.parking):
        pass
    for n in (4, 5):
        before = time.monotonic()
        office.store.deliver([MAIL % (n, n, n)])
        assert ann.line() == b"* %d EXISTS" % n
        assert time.monotonic() - before < 0.5
        ann.line()
    ann.send(b"DONE\r\n")
    assert ann.line() == b"i OK idle is over"
    assert ann.ok("FETCH 5 UID") == [b"* 5 FETCH (UID 5)"]


def test_moves_and_marks_teach(office: Any, ann: Any) -> None:
    ann.ok("SELECT INBOX")
    ann.ok("STORE 1 +FLAGS ($Junk)")
    ann.ok("STORE 1 +FLAGS ($Junk)")
    ann.ok("MOVE 1:2 Junk")
    ann.ok("COPY 1 Archive")
    told = [(type(e).__name__, getattr(e, "target", ""), getattr(e, "added", "")) for e in office.events]
    told = [each for each in told if each[0] in ("Moved", "Flagged")]
    into_junk = ("Moved", "Junk", "")
    assert told == [("Flagged", "", ("$Junk",)), into_junk, into_junk, ("Moved", "Archive", "")]
    assert office.events[-1].filed
    moved = next(event for event in reversed(office.events) if getattr(event, "target", "") == "Junk")
    assert Path(moved.path).read_bytes() == MAIL % (2, 2, 2) and moved.account == imapoffice.USER


def test_a_mailbox_is_junk_by_its_use_and_much_filed_at_once_says_nothing(office: Any, ann: Any) -> None:
    ann.ok("CREATE Unwanted (USE (\\Junk))")
    ann.ok("CREATE Projects")
    ann.ok("SELECT INBOX")
    ann.ok("MOVE 1 Unwanted")
    assert office.events[-1].says == "spam"
    before = len(office.events)
    for n in range(25):
        office.store.deliver([MAIL % (n, n, n)])
    ann.ok("NOOP")
    ann.ok("MOVE 1:* Projects")
    assert len(office.events) == before


def test_condstore_and_qresync(office: Any, ann: Any) -> None:
    assert ann.ok("ENABLE QRESYNC X-NONSENSE") == [b"* ENABLED QRESYNC"]
    lines = ann.ok("SELECT INBOX")
    validity, modseq = (
        int(next(line for line in lines if word in line).split(word)[1].split(b"]")[0])
        for word in (b"UIDVALIDITY ", b"HIGHESTMODSEQ ")
    )
    (line,) = ann.ok(f"STORE 1 (UNCHANGEDSINCE {modseq}) +FLAGS.SILENT \\Seen")
    assert line == b"* 1 FETCH (UID 1 MODSEQ (%d))" % (modseq + 1)
    _, result = ann.command(f"STORE 1 (UNCHANGEDSINCE {modseq}) +FLAGS \\Flagged")
    assert result.startswith(b"OK [MODIFIED 1]")
    ann.ok("STORE 2 +FLAGS.SILENT \\Deleted")
    lines, result = ann.command("EXPUNGE")
    assert lines == [b"* VANISHED 2"] and b"[HIGHESTMODSEQ" in result
    assert ann.ok(f"UID FETCH 1:* FLAGS (CHANGEDSINCE {modseq} VANISHED)") == [
        b"* VANISHED (EARLIER) 2",
        b"* 1 FETCH (UID 1 MODSEQ (%d) FLAGS (\\Seen \\Recent))" % (modseq + 1),
    ]
    with office.bare() as other:
        other.ok("ENABLE QRESYNC")
        lines = other.ok(f"SELECT INBOX (QRESYNC ({validity} {modseq} 1:3))")
        assert lines[-2:] == [b"* VANISHED (EARLIER) 2", b"* 1 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (%d))" % (modseq + 1)]
        lines = other.ok(f"SELECT INBOX (QRESYNC ({validity + 1} {modseq}))")
        assert not any(b"VANISHED" in line for line in lines)
    with office.bare() as other:
        assert other.command("SELECT INBOX (QRESYNC (1 1))")[1].startswith(b"BAD")
        assert other.ok("STATUS INBOX (HIGHESTMODSEQ)")[0].startswith(b"* STATUS INBOX (HIGHESTMODSEQ ")
        other.ok("SELECT INBOX")
        assert b"MODSEQ" in other.ok("FETCH 1 FLAGS")[0]


def test_rev2_and_utf8(ann: Any) -> None:
    assert ann.ok("ENABLE IMAP4rev2") == [b"* ENABLED IMAP4rev2"]
    ann.ok('CREATE "p\u00e4\u00e4/x"')
    assert ann.ok('LIST "" p*')[0] == '* LIST (\\HasNoChildren) "/" "p\u00e4\u00e4/x"'.encode()
    lines = ann.ok("SELECT INBOX")
    assert b'* LIST () "/" INBOX' in lines and not any(b"RECENT" in line or b"UNSEEN" in line for line in lines)
    assert ann.ok("SEARCH ALL")[0].startswith(b"* ESEARCH (TAG ")
    assert ann.ok("SEARCH CHARSET UTF-8 ALL")[0].endswith(b" ALL 1:3")
    assert ann.ok("ENABLE UTF8=ACCEPT") == [b"* ENABLED UTF8=ACCEPT"]
    assert ann.command("SEARCH CHARSET UTF-8 ALL")[1].startswith(b"BAD")
    assert ann.ok("FETCH 1 (EMAILID THREADID)")[0].startswith(b"* 1 FETCH (EMAILID (M")


def test_compression(ann: Any) -> None:
    ann.ok("SELECT INBOX")
    assert ann.command("COMPRESS LZW")[1].startswith(b"BAD")
    ann.ok("COMPRESS DEFLATE")
    out, back = zlib.compressobj(9, zlib.DEFLATED, -15), zlib.decompressobj(-15)
    answer = b""
    ann.send(out.compress(b"a FETCH 1:3 BODY[]\r\nb COMPRESS DEFLATE\r\n") + out.flush(zlib.Z_SYNC_FLUSH))
    while b"\nb " not in answer or not answer.endswith(b"\r\n"):
        answer += back.decompress(ann.sock.recv(65536))
    assert answer.count(b"Subject: hello") == 3
    assert b"b NO [COMPRESSIONACTIVE]" in answer
