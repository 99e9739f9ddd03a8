"""The message as it arrives after DATA or in BDAT chunks: its end, its dots, its flaws (RFC 5321 §4.5.2, RFC 3030).

The message stays one block of octets; nothing here looks at single lines.
"""

from __future__ import annotations

from mailguard.model.reply import Reply
from mailguard.protocol.smtp.dotstuff import only_crlf

END = b"\r\n.\r\n"


class ContentReader:
    """Collects a message of at most ``size_limit`` octets (0: any), over which it goes on reading but keeps nothing.

    What exceeds ``block`` octets is handed out in pieces by ``take``, so that a large message need not be in
    memory; ``line_limit`` is the longest text line in octets (0: any).
    """

    def __init__(self, *, size_limit: int = 0, block: int = 1 << 20, line_limit: int = 0) -> None:
        self._buffer = bytearray(b"\r\n")  # always begins with the line end before it, if at a line's start
        self._skip = 2
        self._size_limit = size_limit
        self._block = block
        self._line_limit = line_limit
        self._stuffed = False  # whether a line that began with a dot has come
        self.size = 0
        self.bare_line_ends = False
        self._nul = False
        self._long_line = False
        self._line_run = 0

    # -- in ---------------------------------------------------------------------------------------------------

    def feed_data(self, data: bytes) -> bytes | None:
        """Adds octets received after DATA; once CRLF.CRLF has come, returns what followed it, else None."""
        start = max(0, len(self._buffer) - 4)
        self._buffer += data
        end = self._find_end(start)
        if end < 0:
            return None
        rest = bytes(self._buffer[end + 5 :])
        del self._buffer[end + 2 :]
        return rest

    def _find_end(self, start: int) -> int:
        # Most messages have no line that begins with a dot but the last: one search finds it, and that there is none.
        if self._stuffed:
            return self._buffer.find(END, start)
        at = self._buffer.find(END[:3], start)
        after = self._buffer[at + 3 : at + 5] if at >= 0 else b""
        if at < 0 or after == END[3:]:
            return at
        if END[3:].startswith(after):  # the rest of it may still come
            return -1
        self._stuffed = True
        return self._buffer.find(END, at)

    def feed_chunk(self, data: bytes) -> None:
        """Adds octets of a BDAT chunk."""
        self._buffer += data

    # -- out --------------------------------------------------------------------------------------------------

    def take(self, *, last: bool, stuffed: bool) -> bytes | None:
        """A piece of the message with its dots undone if ``stuffed``; None where more must come first."""
        if last:
            return self._cut(len(self._buffer), stuffed)
        if len(self._buffer) <= self._block + 8:
            return None
        at = self._buffer.rfind(b"\n", 0, len(self._buffer) - 4) + 1
        if at <= self._skip:  # one enormous line; never cut between CR and LF
            at = len(self._buffer) - 4
            at -= self._buffer[at - 1 : at] == b"\r"
        return self._cut(at, stuffed)

    def _cut(self, at: int, stuffed: bool) -> bytes:
        undo = stuffed and self._stuffed
        with memoryview(self._buffer) as whole:
            piece = bytes(whole[0 if undo else self._skip : at])
        if undo:
            piece = piece.replace(b"\r\n.", b"\r\n")[self._skip :]
        keep = 2 if self._buffer[max(0, at - 2) : at] == b"\r\n" else 0
        del self._buffer[: at - keep]
        self._skip = keep
        return self._checked(piece)

    def _checked(self, piece: bytes) -> bytes:
        self.size += len(piece)
        if self._size_limit and self.size > self._size_limit:
            return b""
        if not only_crlf(piece):
            self.bare_line_ends = True
        if b"\0" in piece:
            self._nul = True
        if self._line_limit and not self._long_line:
            self._measure(piece)
        return piece

    def _measure(self, piece: bytes) -> None:
        # Jumps from line end to line end as far as the limit reaches: a few steps, not one for each line.
        # The line under way may have begun _line_run octets before this piece.
        at, limit = -self._line_run, self._line_limit
        while len(piece) - at > limit:
            end = piece.rfind(b"\n", max(at, 0), max(at + limit, 0))
            if end < 0:
                self._long_line = True
                return
            at = end + 1
        newline = piece.rfind(b"\n")
        self._line_run = len(piece) - (newline + 1 if newline >= 0 else at)

    @property
    def too_big(self) -> bool:
        """Whether the size limit is passed."""
        return bool(self._size_limit) and self.size > self._size_limit

    @property
    def flaw(self) -> Reply | None:
        """Why the complete message must be refused, None if it need not be."""
        if self.bare_line_ends:
            return Reply.of(550, "5.6.0", "message refused: CR or LF stands alone in it (RFC 5321 section 2.3.8)")
        if self.too_big:
            return Reply.of(552, "5.3.4", f"message has more than the {self._size_limit} octets allowed here")
        if self._nul:
            return Reply.of(554, "5.6.0", "message refused: it contains NUL octets")
        if self._long_line:
            return Reply.of(554, "5.6.0", f"message refused: a line has more than {self._line_limit} octets")
        return None
