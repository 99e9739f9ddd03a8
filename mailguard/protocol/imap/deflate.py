"""COMPRESS=DEFLATE: octets in and out, bounded (RFC 4978)."""

from __future__ import annotations

import zlib

PORTION = 65_536
"""Octets inflated at a time: what a small input may grow to before it is looked at."""


class DeflateError(Exception):
    """The client's octets are not DEFLATE."""


class Deflate:
    """Both directions of one connection. ``receive`` gives at most PORTION octets, ``more`` what is left of them;
    ``early`` are octets that came after the COMPRESS command already."""

    def __init__(self, early: bytes = b"") -> None:
        # Small windows: two of them at the usual size would cost a connection 300 kB.
        self._in = zlib.decompressobj(-15)
        self._out = zlib.compressobj(6, zlib.DEFLATED, -13, 6)
        self._left = early

    def receive(self, data: bytes) -> bytes:
        """Inflates what arrived. Raises DeflateError."""
        self._left += data
        return self.more()

    def more(self) -> bytes:
        """The next portion of what has arrived, ``b""`` if there is none. Raises DeflateError."""
        if not self._left:
            return b""
        try:
            plain = self._in.decompress(self._left, PORTION)
        except zlib.error as error:
            raise DeflateError(str(error)) from None
        self._left = self._in.unconsumed_tail
        return plain

    def send(self, data: bytes) -> bytes:
        """Deflates an answer, ready to be sent."""
        return self._out.compress(data) + self._out.flush(zlib.Z_SYNC_FLUSH)
