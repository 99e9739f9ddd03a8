"""mbox files, written in the variant ``mboxrd`` (which loses nothing) and read in any (RFC 4155 and its kin)."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from mailguard.store.content import with_crlf

_QUOTED = re.compile(rb"^(>*From )", re.M)
_UNQUOTE = re.compile(rb"^>(>*From )", re.M)
_STATUS = re.compile(
    rb"^(?:Status|X-Status|X-Keywords|X-IMAP|X-IMAPbase|X-UID):[^\n]*\n(?:[ \t][^\n]*\n)*", re.I | re.M
)
_LETTERS = {"R": "\\Seen", "A": "\\Answered", "F": "\\Flagged", "T": "\\Draft", "D": "\\Deleted"}


@dataclass(frozen=True, slots=True)
class MboxMessage:
    """``raw`` has CRLF line ends; ``date`` is Unix time, None where the separator names none; ``offset`` where the
    message begins in the file."""

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
    """Every message; one at a time is in memory."""
    lines: list[bytes] = []
    separator, start, blank = b"", 0, True
    at = 0
    for line in file:
        if blank and line.startswith(b"From "):
            if separator:
                yield _message(separator, lines, start)
            separator, start, lines = line, at, []
        elif separator:
            lines.append(line)
        blank = line in (b"\n", b"\r\n")
        at += len(line)
    if separator:
        yield _message(separator, lines, start)


def _message(separator: bytes, lines: list[bytes], offset: int) -> MboxMessage:
    if len(lines) > 1 and lines[-1] in (b"\n", b"\r\n"):
        lines.pop()  # the blank line that belongs to the next separator
    data = _UNQUOTE.sub(rb"\1", b"".join(lines))
    header, blank, body = data.replace(b"\r\n", b"\n").partition(b"\n\n")
    flags: list[str] = []
    for field in _STATUS.findall(header + b"\n"):
        name, _, value = field.decode("utf-8", "replace").partition(":")
        if name.lower() in ("status", "x-status"):
            flags += [_LETTERS[letter] for letter in value if letter in _LETTERS]
        elif name.lower() == "x-keywords":
            flags += value.split()
    kept = _STATUS.sub(b"", header + b"\n")[:-1]
    return MboxMessage(with_crlf(kept + blank + body), tuple(dict.fromkeys(flags)), _date(separator), offset)


def _date(separator: bytes) -> float | None:
    words = separator.decode("latin-1").split()
    for form, count in (("%a %b %d %H:%M:%S %Y", 5), ("%a %b %d %H:%M:%S %z %Y", 6)):
        try:
            parsed = time.strptime(" ".join(words[-count:]), form)
        except ValueError:
            continue
        return float(calendar.timegm(parsed) - (parsed.tm_gmtoff or 0))
    return None
