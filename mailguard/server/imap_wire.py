"""Octets of one IMAP connection in and out, compressed if the client wants it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mailguard.net.stream import Stream
from mailguard.protocol.imap.deflate import Deflate, DeflateError
from mailguard.protocol.imap.session import ImapSession

if TYPE_CHECKING:
    from mailguard.server.imap_settings import ImapSettings


class Wire:
    """Between a stream and its session."""

    def __init__(self, stream: Stream, session: ImapSession, settings: ImapSettings) -> None:
        self._stream = stream
        self._session = session
        self._settings = settings
        self._deflate: Deflate | None = None
        self._writing = threading.Lock()

    def receive(self, *, readable: bool = False) -> bytes:
        """Octets for the session, ``b""`` at the end; ``readable`` as in ``Stream.read``. Raises OSError."""
        while data := self._stream.read(readable=readable):
            if self._deflate is None:
                return data
            try:
                if plain := self._deflate.receive(data):
                    return plain
                readable = False
            except DeflateError:
                self._session.close("that is not DEFLATE")
                self.flush()
                return b""
        return b""

    def flush(self) -> None:
        """Sends what is waiting."""
        if out := self._session.take_output():
            self._write(out)

    def _write(self, data: bytes) -> None:
        with self._writing:
            self._stream.timeout = self._settings.write_timeout
            self._stream.write(data if self._deflate is None else self._deflate.send(data))
            self._stream.timeout = self._settings.timeout

    def tell_progress(self, line: bytes) -> None:
        """Sends a line while a command takes its time, if nobody else is sending; from another thread."""
        if self._writing.acquire(blocking=False):
            try:
                self._stream.write(line if self._deflate is None else self._deflate.send(line))
            finally:
                self._writing.release()
