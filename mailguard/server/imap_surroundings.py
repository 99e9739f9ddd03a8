"""What all IMAP connections of a worker share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mailguard.auth.accounts import Account
from mailguard.auth.authenticator import Authenticator
from mailguard.model.event import Event
from mailguard.net.parking import Parking
from mailguard.net.tls import TlsContexts
from mailguard.server.imap_progress import Progress
from mailguard.store.account import AccountStore

if TYPE_CHECKING:
    from mailguard.server.imap_settings import ImapSettings


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all connections of a server share."""

    settings: ImapSettings
    authenticator: Authenticator
    open_store: Callable[[Account], AccountStore]
    tls: TlsContexts | None
    log: Any
    parking: Parking | None
    emit: Callable[[Event], None]
    pause: Callable[[float], None]
    now: Callable[[], float]
    capabilities: tuple[str, ...]
    progress: Progress
