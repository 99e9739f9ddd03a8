"""Lines and literals put together to whole commands (RFC 9051 §2.2.1, §4.3; RFC 7888)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from mailguard.protocol.wire import NEED_DATA, LineTooLongError, NeedData, ReceiveBuffer

MAX_LINE = 65_536  # octets in one line; RFC 7162 §4 asks for at least 8192
MAX_NONSYNC = 4_096  # octets in a literal sent without waiting, RFC 7888 §5 (LITERAL-)
_APPEND = re.compile(rb"[^ ]+ (?:UID )?(?:APPEND|REPLACE) ", re.I)
_LITERAL = re.compile(rb"(~?)\{(\d{1,20})(\+?)\}\Z")


@dataclass(frozen=True, slots=True)
class Command:
    """One whole command: its text parts and the literals between them, ``parts[0] literals[0] parts[1] ...``.

    ``binary[n]`` says whether literal ``n`` was a ``literal8`` (RFC 3516).
    """

    parts: tuple[bytes, ...]
    literals: tuple[bytes, ...] = ()
    binary: tuple[bool, ...] = ()


@dataclass(frozen=True, slots=True)
class WantsContinuation:
    """The client waits for ``+`` before it sends a literal of ``size`` octets."""

    size: int


@dataclass(frozen=True, slots=True)
class Refused:
    """A command that cannot be taken: ``tag`` is the client's or ``b"*"``, ``text`` says which limit it passed.

    ``too_big`` marks a literal over the limit (response code TOOBIG), ``unannounced`` one that should have waited for
    ``+`` (RFC 7888 §5); ``fatal`` means that the stream of octets
    cannot be followed any more and the connection must end with BYE.
    """

    tag: bytes
    text: str
    too_big: bool = False
    fatal: bool = False
    unannounced: bool = False


Event = Command | WantsContinuation | Refused | NeedData


class Framing:
    """Collects one command after the other. ``max_literal`` bounds each literal and their sum in octets, and
    ``max_append``, if set, those of APPEND and REPLACE; lower them before sign-in, raise them after."""

    def __init__(self, *, max_literal: int = 8_192, max_line: int = MAX_LINE) -> None:
        self.buffer = ReceiveBuffer()
        self.max_literal = max_literal
        self.max_line = max_line
        self.max_append = 0
        self._reset()

    def _reset(self) -> None:
        self._parts: list[bytes] = []
        self._literals: list[bytes] = []
        self._binary: list[bool] = []
        self._missing = -1  # octets of the running literal still to come, -1 outside one
        self._literal = bytearray()
        self._draining = False  # whether a refused command is still being read past
        self._skip = 0  # octets of its literal to come

    def receive_data(self, data: bytes) -> None:
        """Takes octets as they arrive."""
        self.buffer.feed(data)

    def next_event(self) -> Event:
        """The next whole command, or what to do to get it."""
        while True:
            if self._draining and not self._drained():
                return NEED_DATA
            if self._missing >= 0 and not self._take_literal():
                return NEED_DATA
            try:
                line = self.buffer.take_line(self.max_line)
            except LineTooLongError:
                return self._refuse(f"line longer than {self.max_line} octets")
            if line is NEED_DATA:
                return NEED_DATA
            assert isinstance(line, bytes)
            event = self._line(line)
            if event is not None:
                return event

    def _line(self, line: bytes) -> Event | None:
        found = _LITERAL.search(line)
        if found is None:
            command = Command((*self._parts, line), tuple(self._literals), tuple(self._binary))
            self._reset()
            return command
        size, waits = int(found[2]), not found[3]
        limit = self._limit(line)
        if size + sum(map(len, self._literals)) > limit:
            return self._too_big(line, size, waits, f"a literal of {size} octets is over the limit of {limit}")
        if not waits and size > MAX_NONSYNC:
            return replace(
                self._too_big(line, size, waits, f"a literal of {size} octets must wait for + (LITERAL-)"),
                unannounced=True,
            )
        self._parts.append(line[: found.start()])
        self._binary.append(bool(found[1]))
        self._missing = size
        return WantsContinuation(size) if waits else None

    def _limit(self, line: bytes) -> int:
        first = self._parts[0] if self._parts else line
        return self.max_append if self.max_append and _APPEND.match(first) else self.max_literal

    def _too_big(self, line: bytes, size: int, waits: bool, text: str) -> Refused:
        self._parts.append(line)
        refused = self._refuse(text, too_big=True, fatal=not waits and size > 16 * max(self.max_literal, MAX_NONSYNC))
        if not waits and not refused.fatal:
            # The client sends it whatever we say: read past it and past the rest of its command.
            self._skip, self._draining = size, True
        return refused

    def _refuse(self, text: str, *, too_big: bool = False, fatal: bool = False) -> Refused:
        tag = (self._parts[0].split(b" ", 1)[0] if self._parts else b"")[:64] or b"*"
        self._reset()
        return Refused(tag if tag.isascii() else b"*", text, too_big, fatal)

    def _drained(self) -> bool:
        """Reads past a refused literal and the rest of its command; False while more of it must arrive."""
        while True:
            self._skip -= len(self.buffer.take(self._skip))
            if self._skip:
                return False
            try:
                rest = self.buffer.take_line(self.max_line)
            except LineTooLongError:
                continue
            if rest is NEED_DATA:
                return False
            assert isinstance(rest, bytes)
            found = _LITERAL.search(rest)
            if found is None or not found[3]:
                self._draining = False
                return True
            self._skip = int(found[2])

    def _take_literal(self) -> bool:
        block = self.buffer.take(self._missing)
        self._literal += block
        self._missing -= len(block)
        if self._missing:
            return False
        self._literals.append(bytes(self._literal))
        self._literal = bytearray()
        self._missing = -1
        return True
