"""What a POP3 session tells its driver, and what the driver offers it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from mailguard.protocol.pop3.maildrop import Entry


class State(Enum):
    """RFC 1939 §3; UPDATE is what the driver does on Quit."""

    AUTHORIZATION = "AUTHORIZATION"
    TRANSACTION = "TRANSACTION"
    CLOSED = "CLOSED"


@dataclass(frozen=True, slots=True)
class Offer:
    """What the driver can do on this connection: ``mechanisms`` are SASL names to advertise now, ``cleartext``
    allows a password in USER and PASS now, ``stls`` says that TLS can still be started."""

    mechanisms: tuple[str, ...] = ()
    cleartext: bool = False
    stls: bool = False
    implementation: str = "mailguard"


@dataclass(frozen=True, slots=True)
class Password:
    """USER and PASS: answer with ``opened`` or ``refused``."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SaslBegin:
    """AUTH: ``response`` is the initial one or None. Answer with ``challenge``, ``opened`` or ``refused``."""

    mechanism: str
    response: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class SaslResponse:
    """The next response of the running exchange; answers as for SaslBegin."""

    response: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StartTls:
    """STLS was accepted: send the output, shake hands, then call ``tls_started``."""


@dataclass(frozen=True, slots=True)
class Retrieve:
    """RETR or TOP (``lines`` is then how much of the body): answer with ``message`` or ``failed``."""

    number: int
    entry: Entry
    lines: int | None


@dataclass(frozen=True, slots=True)
class Quit:
    """QUIT: ``deleted`` are the UIDs to expunge. Answer with ``closed``."""

    deleted: list[int]


Event = Password | SaslBegin | SaslResponse | StartTls | Retrieve | Quit
