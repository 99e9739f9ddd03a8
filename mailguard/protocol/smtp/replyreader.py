"""Replies as a client reads them, from servers of every kind (RFC 5321 §4.2, RFC 2034)."""

from __future__ import annotations

import re
from functools import lru_cache

from mailguard.model.reply import Reply
from mailguard.protocol.wire import NEED_DATA, NeedData, ProtocolError, ReceiveBuffer

MAX_REPLY_LINE = 4096  # octets; RFC 5321 §4.5.3.1.5 says 512, extensions made it grow
MAX_REPLY_LINES = 200

_SHORT = 60  # octets of a line worth remembering: servers say the same few things again and again
_STATUS = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:[ \t]+|$)")


class ReplyReader:
    """Octets in, whole replies out; lenient in what does not matter, strict in what does."""

    def __init__(self) -> None:
        self._buffer = ReceiveBuffer()
        self._lines: list[tuple[int, str]] = []

    def feed(self, data: bytes) -> None:
        """Adds octets as received."""
        self._buffer.feed(data)

    def clear(self) -> None:
        """Forgets everything not yet taken."""
        self._buffer.clear()
        self._lines.clear()

    def take(self) -> Reply | NeedData:
        """The next reply. Raises ProtocolError (fatal) for what is none."""
        while True:
            line = self._buffer.take_line(MAX_REPLY_LINE)
            if line is NEED_DATA:
                return NEED_DATA
            if not self._lines and len(line) <= _SHORT and line[3:4] != b"-":
                return _single(line)
            code, more, text = _parse_line(line)
            if self._lines and self._lines[0][0] != code:
                raise ProtocolError(f"a reply of mixed codes {self._lines[0][0]} and {code}", fatal=True)
            self._lines.append((code, text))
            if len(self._lines) > MAX_REPLY_LINES:
                raise ProtocolError(f"a reply of more than {MAX_REPLY_LINES} lines", fatal=True)
            if not more:
                lines, self._lines = self._lines, []
                return _reply(code, [text for _, text in lines])


@lru_cache(256)
def _single(line: bytes) -> Reply:
    code, _, text = _parse_line(line)
    return _reply(code, [text])


def _parse_line(line: bytes) -> tuple[int, bool, str]:
    code, separator = line[:3], line[3:4]
    if not (len(code) == 3 and code.isdigit() and b"2" <= code[:1] <= b"5" and separator in (b" ", b"-", b"")):
        raise ProtocolError(f"not an SMTP reply: {line[:80].decode('utf-8', 'replace')!r}", fatal=True)
    return int(code), separator == b"-", line[4:].decode("utf-8", "replace")


def _reply(code: int, lines: list[str]) -> Reply:
    status = ""
    if code < 300 or code >= 400:
        found = _STATUS.match(lines[0])
        if found and found[1][0] == str(code)[0]:
            status = found[1]
            lines = [line[m.end() :] if (m := _STATUS.match(line)) else line for line in lines]
    return Reply(code, status, tuple(line if line.isprintable() else _printable(line) for line in lines))


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else " " for c in line)


def extensions_of(reply: Reply) -> dict[str, str]:
    """What an EHLO reply announces: keyword in upper case to its parameters."""
    found: dict[str, str] = {}
    for line in reply.lines[1:]:
        keyword, _, value = line.strip().partition(" ")
        if "=" in keyword and not value:  # the old "AUTH=LOGIN PLAIN"
            keyword, _, value = keyword.partition("=")
        found[keyword.upper()] = value.strip()
    return found
