"""A message on its way in, by DATA or by BDAT chunks: which octets belong to it, and what is to be said to them."""

from __future__ import annotations

from mailguard.model.reply import Reply
from mailguard.protocol.smtp.data import ContentReader
from mailguard.protocol.smtp.event import ContentEvent, PieceEvent, Profile
from mailguard.protocol.wire import NEED_DATA, NeedData, ReceiveBuffer

CHUNK_OK = Reply.of(250, "2.0.0", "chunk received")


class Receiving:
    """The content of one transaction. While ``busy``, octets from the client are content and never commands."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._reader: ContentReader | None = None
        self._chunk = -1  # octets of the running BDAT chunk still to come
        self._last = False
        self._refused: Reply | None = None
        self.by_chunks = False
        self.busy = False  # whether what comes next is content

    def start_data(self) -> None:
        """DATA was accepted."""
        self.busy = True
        self._reader = self._make_reader()

    def start_chunk(self, size: int, *, last: bool, refused: Reply | None) -> None:
        """BDAT: ``size`` octets follow, which are skipped and answered by ``refused`` if there is one."""
        self._chunk, self._refused, self.busy = size, refused, True
        self._last = last and refused is None
        if refused is None and self._reader is None:
            self._reader = self._make_reader()
            self.by_chunks = True

    def _make_reader(self) -> ContentReader:
        p = self._profile
        return ContentReader(size_limit=p.size_limit, block=p.spool_over or p.size_limit, line_limit=p.line_limit)

    def read(self, buffer: ReceiveBuffer) -> PieceEvent | ContentEvent | Reply | NeedData:
        """Takes what has arrived: a piece or the whole message, what to answer to a chunk, or NEED_DATA."""
        if self._chunk >= 0:
            return self._read_chunk(buffer)
        assert self._reader is not None
        rest = self._reader.feed_data(buffer.take_all())
        if rest is not None:
            buffer.feed(rest)
            return self._whole(self._reader, stuffed=True)
        return self._piece(self._reader, stuffed=True)

    def _read_chunk(self, buffer: ReceiveBuffer) -> PieceEvent | ContentEvent | Reply | NeedData:
        block = buffer.take(self._chunk)
        self._chunk -= len(block)
        if self._reader is not None and self._refused is None:
            self._reader.feed_chunk(block)
        if self._chunk:
            return self._piece(self._reader, stuffed=False) if self._reader is not None else NEED_DATA
        self._chunk, self.busy = -1, False
        if self._refused is not None:
            refused, self._refused = self._refused, None
            return refused
        assert self._reader is not None
        return self._whole(self._reader, stuffed=False) if self._last else CHUNK_OK

    @staticmethod
    def _piece(reader: ContentReader, *, stuffed: bool) -> PieceEvent | NeedData:
        piece = reader.take(last=False, stuffed=stuffed)
        return PieceEvent(piece) if piece else NEED_DATA

    @staticmethod
    def _whole(reader: ContentReader, *, stuffed: bool) -> ContentEvent:
        return ContentEvent(reader.take(last=True, stuffed=stuffed) or b"", reader.flaw)
