"""How an IMAP connection waits: for its next command on its thread, then without one until something happens."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mailguard.net.parking import Parking, Reason
from mailguard.net.stream import Stream, StreamTimeoutError
from mailguard.protocol.imap.session import ImapSession
from mailguard.server.imap_client import Client
from mailguard.server.imap_surroundings import Surroundings
from mailguard.server.imap_wire import Wire

_LINGER = 2.0  # seconds a thread waits for the next command before it goes
_LOOK = 1.0  # seconds between two looks at a mailbox in IDLE where there is no parking


class Waiting(Wire):
    """A connection that needs no thread while nothing happens; ``run`` goes on with it on one."""

    def __init__(self, stream: Stream, session: ImapSession, around: Surroundings) -> None:
        super().__init__(stream, session, around.settings)
        self._around = around
        self._client: Client | None = None
        # Between the bell's thread and ours: whether it rang, and how to be woken while parked.
        self._rung = False
        self._wake: Callable[[], None] | None = None
        self._bell = threading.Lock()

    def run(self) -> bool:
        """Reads, answers, writes, until the client has gone (False) or waits without a thread (True)."""
        raise NotImplementedError

    def _over(self) -> bool:
        self._session.close("")  # to nobody: what has arrived must not wait for the garbage collection
        if self._client is not None:
            self._client.stop_listening()
        return False

    def _lingers(self) -> bool:
        """Whether a command came soon after the last one; in IDLE none is expected."""
        if self._session.idle or (self._client is not None and self._client.notifies):
            return False
        self._stream.timeout = _LINGER
        try:
            self._stream.wait_readable()
        except StreamTimeoutError:
            return False
        return True

    def _park(self, parking: Parking) -> None:
        assert self._client is not None
        self._client.rest()
        with self._bell:  # or another thread parks it anew, and the bell it rings then is this one, which is old
            wake = self._wake = parking.park(self._stream, self._woken, self._around.settings.timeout)
            rung = self._rung and (self._session.idle or self._client.notifies)
        if rung:
            wake()

    def ring(self) -> None:
        """The bell of a mailbox; from any thread."""
        with self._bell:
            self._rung = True
            wake = self._wake
        if wake is not None:
            wake()

    def _woken(self, reason: Reason) -> None:
        with self._bell:
            self._wake, self._rung = None, False
        kept = False
        try:
            if reason is Reason.TIMEOUT:
                self._session.close("you were silent for too long")
            elif reason is Reason.DRAIN:
                self._session.close("the server is going down; please come back in a moment")
            elif reason is Reason.READABLE:
                data = self._read(readable=True)
                if not data:
                    return
                self._session.receive_data(data)
            elif self._client is not None:
                self._client.sync()
            kept = self.run()
        finally:
            if not kept:
                self._over()
                self._stream.close()

    def _read(self, *, readable: bool = False) -> bytes:
        """Octets for the session, ``b""`` at the end; ``readable`` as in ``Stream.read``."""
        self._stream.timeout = self._around.settings.timeout
        if self._session.idle and self._around.parking is None:
            self._watch_idle()
            readable = True
        return self.receive(readable=readable)

    def _watch_idle(self) -> None:
        assert self._client is not None
        waited = 0.0
        while True:
            self._stream.timeout = _LOOK
            try:
                self._stream.wait_readable()
                return
            except StreamTimeoutError:
                waited += _LOOK
                if waited > self._around.settings.timeout:
                    raise
                self._client.sync()
                self.flush()
            finally:
                self._stream.timeout = self._around.settings.timeout
