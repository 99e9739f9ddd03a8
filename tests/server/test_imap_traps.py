"""What the RFCs of the extensions ask for in passing, and clients trip over."""

from __future__ import annotations

import queue
import re
from collections.abc import Iterator
from typing import Any

import pytest

from mailguard.server.imap_progress import Progress

MAIL = b"Subject: %b\r\n\r\ntext\r\n"


@pytest.fixture
def ann(office: Any) -> Iterator[Any]:
    """Signed in, five messages in the INBOX, which is selected."""
    with office.bare() as client:
        for n in range(5):
            assert client.append("INBOX", MAIL % (b"m%d" % n)).startswith(b"OK")
        client.ok("SELECT INBOX")
        yield client


def test_esearch_of_nothing_has_a_count_only(ann: Any) -> None:
    (line,) = ann.ok("UID SEARCH RETURN (MIN MAX ALL COUNT) DELETED")
    assert re.fullmatch(rb'\* ESEARCH \(TAG "t\d+"\) UID COUNT 0', line)
    (line,) = ann.ok("SEARCH RETURN (MIN MAX) DELETED")
    assert re.fullmatch(rb'\* ESEARCH \(TAG "t\d+"\)', line)


def test_enabled_lists_what_is_new_and_known(ann: Any) -> None:
    ann.ok("UNSELECT")
    assert ann.ok("ENABLE CONDSTORE X-NOTHING") == [b"* ENABLED CONDSTORE"]
    assert ann.ok("ENABLE CONDSTORE") == [b"* ENABLED"]


def test_a_single_uid_is_no_range(ann: Any) -> None:
    _, result = ann.command("COPY 2 Archive")
    assert re.match(rb"OK \[COPYUID \d+ 2 1\]", result)
    assert ann.command("UID COPY 1,3:4 Archive")[1].split(b"]")[0].split()[-2:] == [b"1,3:4", b"2:4"]


def test_move_tells_where_before_what_goes_and_flags_nothing(office: Any, ann: Any) -> None:
    with office.bare() as bob:
        bob.ok("SELECT INBOX")
        lines = ann.ok("MOVE 2:3 Archive")
        assert lines[0].startswith(b"* OK [COPYUID ") and lines[1:] == [b"* 2 EXPUNGE"] * 2
        assert not any(b"\\Deleted" in line for line in bob.ok("NOOP"))


def test_uid_expunge_removes_its_set_only(ann: Any) -> None:
    ann.ok("STORE 1:3 +FLAGS.SILENT (\\Deleted)")
    assert ann.ok("UID EXPUNGE 2,5") == [b"* 2 EXPUNGE"]
    assert ann.ok("SEARCH DELETED") == [b"* SEARCH 1 2"]


def test_unselect_keeps_and_close_removes(ann: Any) -> None:
    ann.ok("STORE 1 +FLAGS.SILENT (\\Deleted)")
    assert ann.ok("UNSELECT") == []
    ann.ok("SELECT INBOX")
    assert ann.ok("SEARCH DELETED") == [b"* SEARCH 1"]
    assert ann.ok("CLOSE") == []
    assert b"* 4 EXISTS" in ann.ok("SELECT INBOX")


def test_an_unsupported_use_creates_nothing(ann: Any) -> None:
    assert ann.command("CREATE Odd (USE (\\Nonsense))")[1].startswith(b"NO [USEATTR]")
    assert ann.ok('LIST "" Odd') == []


def test_recursivematch_needs_company(ann: Any) -> None:
    assert ann.command('LIST (RECURSIVEMATCH) "" *')[1].startswith(b"BAD")
    ann.ok("CREATE Parent/Child")
    ann.ok("SUBSCRIBE Parent/Child")
    lines = ann.ok('LIST (SUBSCRIBED RECURSIVEMATCH) "" %')
    assert [line for line in lines if b"Parent" in line and b'("CHILDINFO" ("SUBSCRIBED"))' in line]
    assert not any(b"CHILDINFO" in line for line in ann.ok('LIST "" %'))


def test_status_follows_its_list_and_none_what_cannot_be_selected(ann: Any) -> None:
    ann.ok("CREATE Top/Sub")
    lines = ann.ok('LIST "" (Archive Top/Sub nothing) RETURN (STATUS (MESSAGES SIZE))')
    names = [line.split(b" ")[1] + b" " + line.split(b"(")[0].split()[-1] for line in lines]
    assert [line[:6] for line in lines] == [b"* LIST", b"* STAT"] * 2, names


def test_a_failed_save_empties_the_saved_result_and_select_clears_it(ann: Any) -> None:
    ann.ok("SEARCH RETURN (SAVE) 2:3")
    assert ann.ok("UID FETCH $ (UID)") == [b"* 2 FETCH (UID 2)", b"* 3 FETCH (UID 3)"]
    ann.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
    ann.ok("EXPUNGE")
    assert ann.ok("FETCH $ (UID)") == [b"* 2 FETCH (UID 3)"]
    assert ann.command("SEARCH RETURN (SAVE) NOT A KEY")[1].startswith(b"BAD")
    assert ann.ok("FETCH $ (UID)") == [b"* 2 FETCH (UID 3)"]
    assert ann.command("SEARCH RETURN (SAVE) CHARSET NONSENSE TEXT {1}\r\nx")[1].startswith(b"NO [BADCHARSET")
    assert ann.ok("FETCH $ (UID)") == []
    ann.ok("SEARCH RETURN (SAVE) 2:3")
    ann.ok("SELECT INBOX")
    assert ann.ok("FETCH $ (UID)") == []


def test_condstore_by_use_counts_only_real_changes(ann: Any) -> None:
    lines = ann.ok("FETCH 1 (MODSEQ)")
    assert lines[0].startswith(b"* OK [HIGHESTMODSEQ ")
    (first,) = ann.ok("STORE 1 +FLAGS (\\Seen)")
    (again,) = ann.ok("STORE 1 +FLAGS (\\Seen)") or [first]
    assert re.search(rb"MODSEQ \((\d+)\)", first)[1] == re.search(rb"MODSEQ \((\d+)\)", again)[1]  # type: ignore[index]
    modseq = int(re.search(rb"MODSEQ \((\d+)\)", first)[1])  # type: ignore[index]
    ann.ok("STORE 2 +FLAGS.SILENT (\\Flagged)")
    assert b"MODSEQ" in ann.ok(f"STORE 1 (UNCHANGEDSINCE {modseq}) +FLAGS.SILENT (\\Draft)")[0]
    _, result = ann.command(f"STORE 1:3 (UNCHANGEDSINCE {modseq}) +FLAGS.SILENT (\\Answered)")
    assert b"[MODIFIED 1:2]" in result or b"[MODIFIED 1,2]" in result


def test_qresync_needs_enable_and_close_tells_no_modseq(ann: Any) -> None:
    assert ann.command("SELECT INBOX (QRESYNC (1 1))")[1].startswith(b"BAD")
    ann.ok("ENABLE QRESYNC")
    ann.ok("SELECT INBOX")
    ann.ok("STORE 2 +FLAGS.SILENT (\\Deleted)")
    assert b"* VANISHED 2" in ann.ok("EXPUNGE")
    lines, result = ann.command("CLOSE")
    assert lines == [] and b"MODSEQ" not in result
    lines = ann.ok("SELECT INBOX (QRESYNC (1 1))")  # another UIDVALIDITY: a plain SELECT
    assert not any(b"VANISHED" in line or b"FETCH" in line for line in lines)


def test_partial_counts_from_either_end(ann: Any) -> None:
    assert ann.ok("UID SEARCH RETURN (PARTIAL -1:-2) ALL")[0].endswith(b"UID PARTIAL (-1:-2 4:5)")
    assert ann.command("UID SEARCH RETURN (PARTIAL 1:2 ALL) ALL")[1].startswith(b"BAD")
    assert ann.ok("UID FETCH 1:* (FLAGS) (PARTIAL 2:3)")[0].startswith(b"* 2 FETCH (UID 2 ")
    assert len(ann.ok("UID FETCH 1:* (FLAGS) (PARTIAL -1:-2)")) == 2


def test_within_refuses_zero(ann: Any) -> None:
    assert ann.ok("SEARCH YOUNGER 3600") == [b"* SEARCH 1 2 3 4 5"]
    assert ann.ok("SEARCH OLDER 3600") == [b"* SEARCH"]
    assert ann.command("SEARCH YOUNGER 0")[1].startswith(b"BAD")


def test_ids_live_as_long_as_they_should(ann: Any) -> None:
    _, result = ann.command("CREATE Home")
    (id,) = re.findall(rb"MAILBOXID \((.*?)\)", result)
    ann.ok("RENAME Home House")
    assert any(b"MAILBOXID (%b)" % id in line for line in ann.ok("SELECT House"))
    ann.ok("SELECT INBOX")
    (email,) = re.findall(rb"EMAILID \((.*?)\)", ann.ok("FETCH 1 (EMAILID)")[0])
    ann.ok("MOVE 1 House")
    ann.ok("SELECT House")
    assert ann.ok("FETCH 1 (EMAILID)") == [b"* 1 FETCH (EMAILID (%b))" % email]


def test_deflate_is_the_only_compression(ann: Any) -> None:
    assert ann.command("COMPRESS GZIP")[1].startswith(b"BAD")


def test_namespaces_and_quota_roots_of_any_mailbox(ann: Any) -> None:
    (line,) = ann.ok("NAMESPACE")
    assert line.startswith(b'* NAMESPACE (("" "/")) NIL ')
    lines = ann.ok("GETQUOTAROOT INBOX")
    assert lines[0].startswith(b"* QUOTAROOT INBOX")
    assert any(line.startswith(b"* STATUS") for line in ann.ok("STATUS INBOX (DELETED DELETED-STORAGE SIZE)"))


def test_a_literal_holds_no_nul(ann: Any) -> None:
    ann.append("Archive", b"Subject: as text\r\n\r\na\0b")
    binary = b"Subject: declared\r\nContent-Transfer-Encoding: binary\r\n\r\na\0b"
    assert ann.command(b"APPEND Archive ~{%d}\r\n%b" % (len(binary), binary))[1].startswith(b"OK")
    ann.ok("SELECT Archive")
    assert ann.ok("FETCH 1 (BODY.PEEK[TEXT] BINARY.PEEK[1])") == [
        b"* 1 FETCH (BODY[TEXT] {3}\r\na\x80b BINARY[1] ~{3}\r\na\0b)"
    ]
    assert ann.ok("FETCH 2 (BINARY.SIZE[1] BINARY.PEEK[1] BODY.PEEK[1])") == [
        b"* 2 FETCH (BINARY.SIZE[1] 3 BINARY[1] ~{3}\r\na\0b BODY[1] {6}\r\nYQBi\r\n)"
    ]


def test_what_is_not_ascii_comes_as_a_literal_until_utf8_is_enabled(ann: Any) -> None:
    ann.append("Archive", "Content-Type: text/plain; charset=utf-8\r\n\r\ngrün\r\n".encode())
    ann.ok("SELECT Archive")
    assert ann.ok("FETCH 1 PREVIEW") == ["* 1 FETCH (PREVIEW {5}\r\ngrün)".encode()]
    assert ann.command("SELECT gr&APw-n")[1].isascii()
    ann.ok("ENABLE IMAP4rev2")
    assert "'grün'".encode() in ann.command('SELECT "grün"')[1]


def test_old_mail_with_octets_in_its_header_is_taken_as_it_is(ann: Any) -> None:
    for header in ("Subject: gr\u00fcn".encode(), b"Subject: gr\xfcn"):
        assert ann.append("Archive", header + b"\r\n\r\nx\r\n").startswith(b"OK")
    ann.ok("SELECT Archive")
    assert ann.ok("FETCH 2 BODY.PEEK[HEADER]") == [b"* 2 FETCH (BODY[HEADER] {17}\r\nSubject: gr\xfcn\r\n\r\n)"]


def test_nothing_replaces_no_message(ann: Any) -> None:
    assert ann.command("REPLACE 1 INBOX {0}\r\n")[1].startswith(b"NO")
    assert ann.ok("NOOP") == []


def test_a_slow_command_is_said_to_be_under_way() -> None:
    told: queue.Queue[bytes] = queue.Queue()
    progress = Progress(0.01)
    progress.begin(b"a1", told.put)
    assert told.get(timeout=20) == b'* OK [INPROGRESS ("a1" NIL NIL)] still at it\r\n'
    progress.end()


def test_names_are_composed_and_found_in_either_form(office: Any, ann: Any) -> None:
    ann.ok("ENABLE IMAP4rev2")
    assert ann.ok('CREATE "u\u0308ber/a"') == ['* LIST () "/" "\u00fcber/a" ("OLDNAME" ("u\u0308ber/a"))'.encode()]
    assert ann.ok('SELECT "u\u0308ber/a"')[-1] == '* LIST () "/" "\u00fcber/a" ("OLDNAME" ("u\u0308ber/a"))'.encode()
    assert ann.ok('SELECT "\u00fcber/a"')[-1] == '* LIST () "/" "\u00fcber/a"'.encode()
    ann.ok("UNSELECT")
    (office.folder / "mail/.o&Awg-/cur").mkdir(parents=True)  # another program does not compose
    assert ann.ok('STATUS "o\u0308" (MESSAGES)') == ['* STATUS "o\u0308" (MESSAGES 0)'.encode()]
    ann.ok('RENAME "o\u0308" "O\u0308"')
    assert ann.ok('LIST "" "\u00d6"') == ['* LIST (\\HasNoChildren) "/" "\u00d6"'.encode()]
    ann.ok('DELETE "O\u0308"')
    assert ann.ok('LIST "" "\u00d6"') == []


def test_nothing_is_called_inbox_but_the_inbox(ann: Any) -> None:
    ann.ok("CREATE inbox/sub")
    assert ann.ok('LIST "" *b')[0] == b'* LIST (\\HasNoChildren) "/" INBOX/sub'
    assert ann.ok("STATUS Inbox/sub (MESSAGES)") == [b"* STATUS Inbox/sub (MESSAGES 0)"]
    ann.ok("RENAME iNbox/sub inbox/other")
    assert [line.split()[-1] for line in ann.ok('LIST "" *')[:2]] == [b"INBOX", b"Archive"]
    assert ann.ok('LIST "" INBOX%*') == [
        b'* LIST (\\HasChildren) "/" INBOX', b'* LIST (\\HasNoChildren) "/" INBOX/other',
    ]  # fmt: skip
