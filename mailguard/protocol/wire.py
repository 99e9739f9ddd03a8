"""Bytes as they arrive: a bounded buffer that hands out lines and counted blocks."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal

from mailguard.model.reply import Reply


class _NeedData(Enum):
    NEED_DATA = "NEED_DATA"

    def __repr__(self) -> str:
        return self.value


NEED_DATA: Final = _NeedData.NEED_DATA
"""Returned by every ``next_event``: nothing more can be said before more bytes arrive."""

NeedData = Literal[_NeedData.NEED_DATA]


class ProtocolError(Exception):
    """The peer broke the protocol; ``text`` says how, in words fit for the peer.

    ``reply`` is what SMTP answers; IMAP and POP3 render ``text`` in their own way. ``fatal`` means the
    connection cannot be used any more.
    """

    def __init__(self, text: str, *, reply: Reply | None = None, fatal: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.reply = reply
        self.fatal = fatal


class LineTooLongError(ProtocolError):
    """A line passed its limit; the buffer has dropped it up to its end or will do so as it arrives."""


class BareLineEndError(ProtocolError):
    """A line ended with LF alone where CRLF must be."""


class ReceiveBuffer:
    """What was received and not yet consumed. It grows no further than the caller feeds it between reads."""

    __slots__ = ("_data", "_scanned", "_skipping")

    def __init__(self) -> None:
        self._data = bytearray()
        self._scanned = 0
        self._skipping = False

    def __len__(self) -> int:
        return len(self._data)

    def feed(self, data: bytes) -> None:
        """Adds bytes as received."""
        self._data += data

    def clear(self) -> None:
        """Discards everything, as after STARTTLS (RFC 3207 §4.2)."""
        self._data.clear()
        self._scanned = 0
        self._skipping = False

    def take_line(self, limit: int, *, crlf_only: bool = False) -> bytes | NeedData:
        """The next line without its line end, CRLF or LF; ``limit`` in octets, line end included.

        Raises LineTooLongError once for a line over the limit, whose rest is skipped without being kept, and
        with ``crlf_only`` BareLineEndError for a line that ends with LF alone.
        """
        end = self._data.find(b"\n", self._scanned)
        if end < 0:
            self._scanned = len(self._data)
            return self._wait_for_line(limit)
        line = bytes(self._data[: end + 1])
        del self._data[: end + 1]
        self._scanned = 0
        if self._skipping:
            self._skipping = False
            return self.take_line(limit, crlf_only=crlf_only)
        if len(line) > limit:
            raise LineTooLongError(f"line longer than {limit} octets")
        if crlf_only and not line.endswith(b"\r\n"):
            raise BareLineEndError("a line ended with LF alone")
        return line[:-2] if line.endswith(b"\r\n") else line[:-1]

    def _wait_for_line(self, limit: int) -> NeedData:
        if len(self._data) < limit and not self._skipping:
            return NEED_DATA
        self._data.clear()
        self._scanned = 0
        first, self._skipping = not self._skipping, True
        if first:
            raise LineTooLongError(f"line longer than {limit} octets")
        return NEED_DATA

    def take(self, count: int) -> bytes:
        """Up to ``count`` octets, fewer if no more have arrived."""
        if count >= len(self._data):
            block = bytes(self._data)
            self._data.clear()
        else:
            block = bytes(self._data[:count])
            del self._data[:count]
        self._scanned = 0
        return block

    def take_all(self) -> bytes:
        """Everything received so far."""
        return self.take(len(self._data))

    def find(self, needle: bytes, start: int = 0) -> int:
        """The offset of ``needle``, -1 if it has not arrived."""
        return self._data.find(needle, start)

    def peek(self, count: int) -> bytes:
        """The next ``count`` octets, left in place."""
        return bytes(self._data[:count])
