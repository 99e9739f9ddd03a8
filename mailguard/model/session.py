"""What is known of one SMTP, LMTP, IMAP or POP3 connection."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Role(Enum):
    """What a listener is for."""

    MX = "mx"  # port 25: mail from other servers
    SUBMISSION = "submission"  # ports 587 and 465: mail from our own users (RFC 6409)
    LMTP = "lmtp"  # behind another MTA (RFC 2033)


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """The TLS of a connection: ``version`` as in ``TLSv1.3``, ``cipher`` its suite, ``sni`` the name the client
    asked for or ``""``, ``verified`` whether the peer's certificate was checked and fits."""

    version: str
    cipher: str
    sni: str = ""
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """One connection as the pipeline sees it; replaced, never changed, as more becomes known.

    ``id`` runs through every log line, ``peer_ip`` is the client's address as text without a zone, ``ptr`` its
    forward-confirmed host name or ``""``, ``helo`` what it called itself or ``""``, ``user`` the authenticated
    account's address or ``""``, ``early`` whether it spoke before our greeting (RFC 5321 §4.3.1).
    """

    id: str
    peer_ip: str
    peer_port: int = 0
    local_port: int = 0
    role: Role = Role.MX
    ptr: str = ""
    helo: str = ""
    esmtp: bool = False
    tls: TlsInfo | None = None
    user: str = ""
    early: bool = False

    @property
    def authenticated(self) -> bool:
        """Whether one of our own users is signed in."""
        return bool(self.user)
