"""What an SMTP or LMTP server offers on a port, and the events it hands to its driver."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailguard.model.reply import Reply
from mailguard.protocol.smtp import command as cmd
from mailguard.protocol.wire import NeedData


@dataclass(frozen=True, slots=True)
class Profile:
    """What this port offers: ``mechanisms`` of AUTH, ``starttls``, the limits; ``needs_auth`` on submission ports,
    ``lmtp`` where that is spoken (RFC 2033), ``xclient`` to a client that may speak for others.

    A message over ``spool_over`` octets is handed out in pieces (0: never). ``hold_max`` is how many seconds a
    message may be held back and ``hold_until`` the latest Unix time, 0 without FUTURERELEASE (RFC 4865).
    """

    hostname: str
    size_limit: int
    rcpt_max: int
    starttls: bool = False
    mechanisms: tuple[str, ...] = ()
    needs_auth: bool = False
    secured: bool = False
    lmtp: bool = False
    xclient: bool = False
    errors_max: int = 20
    commands_max: int = 10_000
    mail_max: int = 1000
    line_limit: int = 0
    spool_over: int = 0
    hold_max: int = 0
    hold_until: int = 0


@dataclass(frozen=True, slots=True)
class HelloEvent:
    """The client has introduced itself; it was answered already."""

    name: str
    esmtp: bool


@dataclass(frozen=True, slots=True)
class AuthEvent:
    """AUTH began (``mechanism`` set) or went on; answer with ``challenge`` or ``send``."""

    mechanism: str
    response: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class PieceEvent:
    """A piece of a message too large to be kept in memory; nothing is to be answered."""

    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ContentEvent:
    """The whole message has arrived, ``raw`` being all of it that was in no PieceEvent; ``flaw`` is the reply it
    must get if it has one."""

    raw: bytes = field(repr=False)
    flaw: Reply | None


@dataclass(frozen=True, slots=True)
class StartTlsEvent:
    """220 was said: send it, shake hands, then call ``secured``."""


@dataclass(frozen=True, slots=True)
class ResetEvent:
    """The transaction under way was dropped."""


@dataclass(frozen=True, slots=True)
class CloseEvent:
    """Send what there is to send and close."""


Event = (
    HelloEvent
    | cmd.Mail
    | cmd.Rcpt
    | cmd.Xclient
    | AuthEvent
    | PieceEvent
    | ContentEvent
    | StartTlsEvent
    | ResetEvent
    | CloseEvent
    | NeedData
)
