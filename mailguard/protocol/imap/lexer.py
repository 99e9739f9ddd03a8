"""The words of a command: atoms, strings, numbers, sets, dates (RFC 9051 §9)."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from typing import TypeVar

from mailguard.protocol.imap.framing import Command
from mailguard.protocol.imap.mailboxname import decode_name
from mailguard.protocol.imap.sequence import SequenceError, SequenceSet
from mailguard.protocol.wire import ProtocolError

_ATOM = re.compile(rb'[^\x00-\x20(){%*"\\\]\x7f-\xff]+')
_ASTRING = re.compile(rb'[^\x00-\x20(){%*"\\\x7f-\xff]+')
_PATTERN = re.compile(rb'[^\x00-\x20(){"\\\x7f-\xff]+')
_QUOTED = re.compile(rb'"((?:[^"\\\r\n\x00]|\\["\\])*)"')
_ESCAPE = re.compile(rb"\\(.)")
_NUMBER = re.compile(rb"\d{1,20}(?!\d)")
_SET = re.compile(rb"[0-9:*,]+")
_FLAG = re.compile(rb'\\?[^\x00-\x20(){%*"\\\]\x7f-\xff]+')
_SECTION = re.compile(rb"[A-Za-z0-9.]+")
_DATE = re.compile(r"(\d{1,2})-([A-Za-z]{3})-(\d{4})\Z")
_DATE_TIME = re.compile(r"( \d|\d\d)-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)\Z")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")

MAX_NUMBER = (1 << 63) - 1  # RFC 9051 §9, number64
_T = TypeVar("_T")


class CommandError(ProtocolError):
    """A command that is answered ``status`` (NO or BAD), with the response code ``code`` if it is not empty."""

    def __init__(self, text: str, *, status: str = "BAD", code: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.code = code


class Lexer:
    """Walks over one framed command from left to right; every method raises CommandError where its word is not there.

    ``utf8`` tells whether mailbox names are UTF-8 instead of modified UTF-7, ``accepts_utf8`` whether the client
    enabled UTF8=ACCEPT.
    """

    def __init__(self, command: Command, *, utf8: bool = False, accepts_utf8: bool = False) -> None:
        self._command = command
        self._part = 0
        self._text = command.parts[0]
        self._at = 0
        self.utf8 = utf8
        self.accepts_utf8 = accepts_utf8

    def peek(self) -> bytes:
        """The next octet, ``b""`` at the end or before a literal."""
        return self._text[self._at : self._at + 1]

    @property
    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._text) and self._part == len(self._command.literals)

    @property
    def at_literal(self) -> bool:
        """Whether a literal comes next."""
        return self._at >= len(self._text) and self._part < len(self._command.literals)

    def rest(self) -> bytes:
        """What is left, if no literal is among it, else ``b""``; it is not taken."""
        return b"" if self._part < len(self._command.literals) else self._text[self._at :]

    def skip_rest(self) -> None:
        """Takes all that is left, literals too."""
        self._part = len(self._command.literals)
        self._text = self._command.parts[-1]
        self._at = len(self._text)

    def end(self) -> None:
        """Nothing may follow."""
        if not self.at_end:
            raise CommandError(f"unexpected {self._near()} at the end of the command")

    def space(self) -> None:
        """One space."""
        if not self.accept(b" "):
            raise CommandError(f"a space is missing before {self._near()}")

    def accept(self, text: bytes) -> bool:
        """Takes ``text`` if it comes next."""
        if self._text.startswith(text, self._at):
            self._at += len(text)
            return True
        return False

    def expect(self, text: bytes) -> None:
        """``text`` must come next."""
        if not self.accept(text):
            raise CommandError(f"{text.decode()!r} is missing before {self._near()}")

    def accept_word(self, word: bytes) -> bool:
        """Takes an atom, in any case, if it comes next as a whole."""
        match = _ATOM.match(self._text, self._at)
        if match is None or match[0].upper() != word:
            return False
        self._at = match.end()
        return True

    def _near(self) -> str:
        rest = self._text[self._at : self._at + 20].decode("ascii", "replace")
        return repr(rest) if rest else "a literal" if self.at_literal else "the end"

    def _take(self, pattern: re.Pattern[bytes], what: str) -> bytes:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise CommandError(f"expected {what}, found {self._near()}")
        self._at = match.end()
        return match[0]

    def atom(self) -> str:
        """An atom."""
        return self._take(_ATOM, "an atom").decode("ascii")

    def word(self) -> str:
        """An atom in capitals, for keywords of the protocol."""
        return self.atom().upper()

    def flag(self) -> str:
        """A flag or keyword."""
        return self._take(_FLAG, "a flag").decode("ascii")

    def section_word(self) -> str:
        """Part numbers and words of a section, in capitals."""
        return self._take(_SECTION, "a section").decode("ascii").upper()

    def number(self, largest: int = MAX_NUMBER) -> int:
        """A number."""
        found = int(self._take(_NUMBER, "a number"))
        if found > largest:
            raise CommandError(f"{found} is larger than {largest}")
        return found

    def literal(self) -> tuple[bytes, bool]:
        """A literal, and whether it was a literal8."""
        if not self.at_literal:
            raise CommandError(f"expected a literal, found {self._near()}")
        found = self._command.literals[self._part], self._command.binary[self._part]
        self._part += 1
        self._text, self._at = self._command.parts[self._part], 0
        return found

    def _text_literal(self) -> bytes:
        value, binary = self.literal()
        if binary or b"\0" in value:
            raise CommandError("no binary literal may stand here")
        return value

    def string(self) -> bytes:
        """A quoted string or a literal."""
        if self.at_literal:
            return self._text_literal()
        quoted = self._take(_QUOTED, "a string")[1:-1]
        return _ESCAPE.sub(rb"\1", quoted) if b"\\" in quoted else quoted

    def astring(self) -> bytes:
        """An atom (``]`` allowed) or a string."""
        if self.at_literal or self.peek() == b'"':
            return self.string()
        return self._take(_ASTRING, "a word or a string")

    def nstring(self) -> bytes | None:
        """A string, None for NIL."""
        return None if self.accept_word(b"NIL") else self.string()

    def pattern(self) -> str:
        """A mailbox name of LIST, wildcards allowed; one that can be no mailbox's name matches none, as it stands."""
        value = self.string() if self.at_literal or self.peek() == b'"' else self._take(_PATTERN, "a mailbox pattern")
        try:
            return self.name_of(value)
        except CommandError:
            return value.decode("ascii", "replace")

    def mailbox(self) -> str:
        """A mailbox name in Unicode; INBOX in capitals whatever its case."""
        name = self.name_of(self.astring())
        return "INBOX" if name.upper() == "INBOX" else name

    def name_of(self, value: bytes) -> str:
        """A mailbox name as the client wrote it, in Unicode. Raises CommandError (NO [CANNOT])."""
        try:
            return value.decode("utf-8") if self.utf8 else decode_name(value.decode("ascii"))
        except ValueError:
            kind = "UTF-8" if self.utf8 else "modified UTF-7"
            text = f"{value[:60].decode('ascii', 'replace')!r} is not a mailbox name in {kind}"
            raise CommandError(text, status="BAD" if self.utf8 else "NO", code="" if self.utf8 else "CANNOT") from None

    def sequence_set(self) -> SequenceSet | None:
        """A set of numbers; None stands for ``$``, the saved search result (RFC 5182)."""
        if self.accept(b"$"):
            return None
        try:
            return SequenceSet.parse(self._take(_SET, "a sequence set").decode("ascii"))
        except SequenceError as error:
            raise CommandError(str(error)) from None

    def uid_set(self) -> SequenceSet:
        """A set of UIDs without ``$``."""
        found = self.sequence_set()
        if found is None:
            raise CommandError("$ may not stand here")
        return found

    def parenthesised(self, item: Callable[[], _T], *, empty: bool = False) -> tuple[_T, ...]:
        """``(item item ...)``."""
        self.expect(b"(")
        found: list[_T] = []
        while not self.accept(b")"):
            if found:
                self.space()
            found.append(item())
        if not found and not empty:
            raise CommandError("the list in parentheses is empty")
        return tuple(found)

    def date(self) -> datetime.date:
        """``1-Feb-1994``, in quotes or not."""
        text = self.astring().decode("ascii", "replace")
        match = _DATE.match(text)
        if match is None:
            raise CommandError(f"{text[:20]!r} is not a date such as 1-Feb-2026")
        try:
            return datetime.date(int(match[3]), _month(match[2]), int(match[1]))
        except ValueError:
            raise CommandError(f"there is no date {text}") from None

    def date_time(self) -> float:
        """``"01-Feb-2026 12:00:00 +0100"`` as Unix time."""
        text = self.string().decode("ascii", "replace")
        match = _DATE_TIME.match(text)
        if match is None:
            raise CommandError(f"{text[:30]!r} is not a date such as 01-Feb-2026 12:00:00 +0000")
        minutes = int(match[8]) * 60 + int(match[9])
        try:
            zone = datetime.timezone(datetime.timedelta(minutes=minutes if match[7] == "+" else -minutes))
            numbers = (int(match[3]), _month(match[2]), int(match[1]), int(match[4]), int(match[5]), int(match[6]))
            return datetime.datetime(*numbers, tzinfo=zone).timestamp()
        except (ValueError, OverflowError):
            raise CommandError(f"there is no date {text}") from None


def _month(name: str) -> int:
    return _MONTHS.index(name.lower()) + 1
