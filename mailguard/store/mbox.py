"""mbox files, written in the variant ``mboxrd`` (which loses nothing) and read in any (RFC 4155 and its kin)."""

from __future__ import annotations

import calendar
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from mailguard.protocol.imap.sort import sent_date
from mailguard.store.content import with_crlf

_QUOTED = re.compile(rb"^(>*From )", re.M)
_UNQUOTE = re.compile(rb"^>(>*From )", re.M)
_SEPARATOR = re.compile(rb"From (?:-?\s*\Z|.*\b[A-Z][a-z][a-z] [A-Z][a-z][a-z] [ \d]?\d \d\d:\d\d)")
"""It names a day and a time; Thunderbird's is empty. Anything else is text, whether somebody quoted it or not."""

_STATUS = re.compile(
    rb"^(?:Status|X-Status|X-Keywords|X-IMAP|X-IMAPbase|X-UID|X-Mozilla-(?:Status2?|Keys)):[^\n]*\n(?:[ \t][^\n]*\n)*",
    re.I | re.M,
)
_LENGTH = re.compile(rb"^Content-Length:[ \t]*(\d{1,10})\s*$", re.I | re.M)
_DATE = re.compile(rb"^Date:[ \t]*([^\n]+)", re.I | re.M)
_LETTERS = {"R": "\\Seen", "A": "\\Answered", "F": "\\Flagged", "T": "\\Draft", "D": "\\Deleted"}
_MOZILLA = {0x1: "\\Seen", 0x2: "\\Answered", 0x4: "\\Flagged", 0x1000: "$Forwarded"}
_EXPUNGED = 0x8  # of X-Mozilla-Status: only the file is not compacted yet
_BLANK = (b"\n", b"\r\n")
_FORMS = ("%a %b %d %H:%M:%S %Y", "%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y %z")


class MboxError(ValueError):
    """The file is none."""


@dataclass(frozen=True, slots=True)
class MboxMessage:
    """``raw`` has CRLF line ends; ``date`` is Unix time, None where neither the separator nor Date names one;
    ``offset`` where the message begins in the file."""

    raw: bytes
    flags: tuple[str, ...]
    date: float | None
    offset: int


def write_message(file: BinaryIO, raw: bytes, flags: str, date: float) -> None:
    """Adds a message (in any line ends) with its flags (as FETCH prints them) and INTERNALDATE."""
    had = flags.split()
    status = ("R" if "\\Seen" in had else "") + "O"
    more = "".join(letter for letter, flag in _LETTERS.items() if letter != "R" and flag in had)
    keywords = " ".join(flag for flag in had if not flag.startswith("\\"))
    head = f"From MAILER-DAEMON {time.asctime(time.gmtime(date))}\nStatus: {status}\n"
    head += (f"X-Status: {more}\n" if more else "") + (f"X-Keywords: {keywords}\n" if keywords else "")
    body = _QUOTED.sub(rb">\1", raw.replace(b"\r\n", b"\n"))
    file.write(head.encode("ascii", "replace") + body + (b"\n" if body.endswith(b"\n") else b"\n\n"))


def read_messages(file: BinaryIO) -> Iterator[MboxMessage]:
    """Every message of a file that can be sought in; one at a time is in memory. What mail programs keep of their own
    in it, and what Thunderbird has expunged, is left out. Raises MboxError."""
    line = next((line for line in file if line not in _BLANK), b"")
    if line and not _SEPARATOR.match(line):
        raise MboxError("its first line is no separator (`From `, an address and a time)")
    while line:
        separator, start = line, file.tell() - len(line)
        lines, line = _lines(file)
        made = _message(separator, lines, start)
        if made is not None:
            yield made


def _lines(file: BinaryIO) -> tuple[list[bytes], bytes]:
    """The lines of a message, and the separator after it."""
    lines: list[bytes] = []
    header, blank = True, False
    while line := file.readline():
        if blank and _SEPARATOR.match(line):
            break
        lines.append(line)
        blank = line in _BLANK
        if header and blank:
            header = False
            if (body := _counted(file, b"".join(lines))) is not None:
                return [*lines, body], file.readline()
    if len(lines) > 1 and lines[-1] in _BLANK:
        lines.pop()  # the blank line that belongs to the separator
    return lines, line


def _counted(file: BinaryIO, header: bytes) -> bytes | None:
    """The body by its Content-Length, if a separator or the end of the file follows there."""
    found = _LENGTH.search(header.replace(b"\r\n", b"\n"))
    if found is None:
        return None
    at = file.tell()
    body = file.read(int(found[1]))
    while (line := file.readline()) in _BLANK:
        pass
    if len(body) == int(found[1]) and (not line or _SEPARATOR.match(line)):
        file.seek(-len(line), os.SEEK_CUR)
        return body
    file.seek(at)
    return None


def _message(separator: bytes, lines: list[bytes], offset: int) -> MboxMessage | None:
    data = _UNQUOTE.sub(rb"\1", b"".join(lines))
    header, blank, body = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    flags: list[str] = []
    for field in _STATUS.findall(header + b"\n"):
        name, _, value = field.decode("utf-8", "replace").partition(":")
        name = name.lower()
        if name in ("status", "x-status"):
            flags += [_LETTERS[letter] for letter in value if letter in _LETTERS]
        elif name in ("x-keywords", "x-mozilla-keys"):
            flags += value.split()
        elif name == "x-mozilla-status":
            bits = _hexadecimal(value)
            if bits & _EXPUNGED:
                return None
            flags += [flag for bit, flag in _MOZILLA.items() if bits & bit]
        elif name in ("x-imap", "x-imapbase") and b"FOLDER INTERNAL DATA" in header:
            return None
    kept = _STATUS.sub(b"", header + b"\n")[:-1]
    raw = with_crlf(kept + blank + body)
    date = _date(separator)
    return MboxMessage(raw, tuple(dict.fromkeys(flags)), _sent(kept) if date is None else date, offset)


def _hexadecimal(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0


def _date(separator: bytes) -> float | None:
    words = separator.decode("latin-1").split()
    for form in _FORMS:
        try:
            parsed = time.strptime(" ".join(words[-len(form.split()) :]), form)
        except ValueError:
            continue
        return float(calendar.timegm(parsed) - (parsed.tm_gmtoff or 0))
    return None


def _sent(header: bytes) -> float | None:
    """The time in Date, which is better than none."""
    found = _DATE.search(header)
    sent = sent_date(found[1]) if found else None
    return None if sent is None else float(sent.at)
