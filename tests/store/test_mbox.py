"""mbox files of many programs: every message once, as it was, and nothing that is none."""

from __future__ import annotations

import io

import pytest

from mailguard.store.mbox import MboxError, MboxMessage, read_messages, write_message

AT = 1_795_514_400.0  # Tue, 24 Nov 2026 10:00:00 UTC
FROM = b"From a@x Tue Nov 24 10:00:00 2026\n"


def read(text: bytes) -> list[MboxMessage]:
    return list(read_messages(io.BytesIO(text)))


def raws(text: bytes) -> list[bytes]:
    return [message.raw for message in read(text)]


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_messages_end_where_a_separator_begins(end: bytes) -> None:
    text = FROM + b"Subject: 1\n\nFrom here\n>From there\n\nFrom me to you, at 10:00\n\n" + FROM + b"Subject: 2\n\nlast"
    assert raws(text.replace(b"\n", end)) == [
        b"Subject: 1\r\n\r\nFrom here\r\nFrom there\r\n\r\nFrom me to you, at 10:00\r\n", b"Subject: 2\r\n\r\nlast"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("separator", "at"),
    [
        (b"From a@x Tue Nov 24 10:00:00 2026", AT),
        (b"From a@x  Sun Nov  1 10:00:00 2026", AT - 23 * 86_400),
        (b"From - Tue Nov 24 10:00:00 2026", AT),
        (b"From a b@x Tue Nov 24 10:00:00 +0100 2026", AT - 3600),
        (b"From a@x Tue Nov 24 10:00:00 2026 +0100", AT - 3600),
        (b"From ", AT + 60),  # Thunderbird's: Date has to do
        (b"From - ", AT + 60),
    ],
)
def test_separators_and_what_they_say_of_the_time(separator: bytes, at: float) -> None:
    mail = b"Date: Tue, 24 Nov 2026 10:01:00 +0000\n\nx\n"
    first, second = read(separator + b"\n" + mail + b"\n" + separator + b"\n" + mail)
    assert first.date == second.date == at and first.raw == second.raw == mail.replace(b"\n", b"\r\n")


def test_a_length_holds_where_a_message_ends_there() -> None:
    body = b"From here\n\n" + FROM + b"quoted by nobody\n"
    assert raws(b"%bContent-Length: %d\n\n%b\n%bSubject: 2\n\nx\n" % (FROM, len(body), body, FROM))[1:] == [
        b"Subject: 2\r\n\r\nx\r\n"
    ]
    wrong = b"%bContent-Length: %d\n\nshort\n\n%bSubject: 2\n\nx\n"
    for length in (3, 40, 10_000):
        assert [raw[-3:] for raw in raws(wrong % (FROM, length, FROM))] == [b"t\r\n", b"x\r\n"]
    assert raws(b"%bContent-Length: 2\n\nx\n" % FROM) == [b"Content-Length: 2\r\n\r\nx\r\n"]


def test_flags_of_many_programs() -> None:
    head = b"Status: RO\nX-Status: AF\nX-Keywords: Work $Label1\nX-UID: 7\nSubject: s\n\nx\n"
    mozilla = b"X-Mozilla-Status: %b\nX-Mozilla-Status2: 00000000\nX-Mozilla-Keys: $label2 own     \nSubject: s\n\nx\n"
    made = read(b"\n".join([FROM + head, FROM + mozilla % b"1007", FROM + mozilla % b"0000", FROM + mozilla % b"zz"]))
    assert {message.raw for message in made} == {b"Subject: s\r\n\r\nx\r\n"}
    assert [message.flags for message in made] == [
        ("\\Seen", "\\Answered", "\\Flagged", "Work", "$Label1"),
        ("\\Seen", "\\Answered", "\\Flagged", "$Forwarded", "$label2", "own"), *2 * [("$label2", "own")],
    ]  # fmt: skip


def test_what_is_no_mail_stays_behind() -> None:
    """The note of an IMAP server to itself, and what Thunderbird expunged."""
    note = b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1700000000 2 Work\n\ntext\n\n"
    gone = b"X-Mozilla-Status: 0009\nSubject: gone\n\nx\n\n"
    assert raws(FROM + note + FROM + gone + FROM + b"X-UID: 1\nSubject: mail\n\nx") == [b"Subject: mail\r\n\r\nx"]


def test_what_is_no_mbox() -> None:
    assert raws(b"") == raws(b"\n\n") == []
    for text in (b"hello\n", b"Subject: a message\n\nbody\n", b"From me\nto you\n", b"\x1f\x8b\x08\0\n"):
        with pytest.raises(MboxError, match="no separator"):
            read(text)


def test_there_and_back() -> None:
    mails = [b"Subject: a\r\n\r\nFrom x\r\n>From y\r\n", b"Subject: b\r\n\r\n\r\n\r\n", b"Subject: c\r\n\r\nno end"]
    file = io.BytesIO()
    for mail in mails:
        write_message(file, mail, "\\Seen \\Draft Work", AT)
    back = read(file.getvalue())
    assert [message.raw for message in back[:2]] == mails[:2] and back[2].raw in (mails[2], mails[2] + b"\r\n")
    assert {(message.flags, message.date) for message in back} == {(("\\Seen", "\\Draft", "Work"), AT)}
