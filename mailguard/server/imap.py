"""IMAP for all connections of a worker: its settings, and what a connection may do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mailguard.auth.accounts import Account
from mailguard.auth.authenticator import Authenticator
from mailguard.model.event import Event
from mailguard.net.listener import Peer
from mailguard.net.listening import ListenerSettings
from mailguard.net.parking import Parking
from mailguard.net.stream import Stream
from mailguard.net.tls import TlsContexts
from mailguard.server.imap_connection import Connection
from mailguard.server.imap_handlers import CAPABILITIES
from mailguard.server.imap_progress import Progress
from mailguard.server.imap_settings import ImapSettings
from mailguard.server.imap_surroundings import Surroundings
from mailguard.store.account import AccountStore


class ImapServer:
    """Serves IMAP connections. ``open_store`` gives an account's mail, ``tls`` is None where TLS is not set up,
    ``parking`` keeps idle sessions without a thread (None: each keeps its own), ``pause`` is how a refusal is
    held back."""

    def __init__(
        self,
        settings: ImapSettings,
        authenticator: Authenticator,
        open_store: Callable[[Account], AccountStore],
        tls: TlsContexts | None,
        log: Any,
        *,
        parking: Parking | None = None,
        emit: Callable[[Event], None] = lambda _: None,
        pause: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self._around = Surroundings(
            settings=settings,
            authenticator=authenticator,
            open_store=open_store,
            tls=tls,
            log=log,
            parking=parking,
            emit=emit,
            pause=pause,
            now=now,
            capabilities=tuple(
                name for name in CAPABILITIES if name.upper() not in {n.upper() for n in settings.hide_capabilities}
            ),
            progress=Progress(),
        )

    def handle(self, stream: Stream, peer: Peer, _listener: ListenerSettings) -> bool:
        """Serves one connection, in TLS already where its listener is for that; whether it keeps the stream for
        later, and closes it by itself. Raises OSError."""
        return Connection(self._around, stream, peer.ip).run()
