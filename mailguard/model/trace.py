"""Trace fields: Received, Return-Path, Delivered-To (RFC 5321 §4.4, RFC 3848, RFC 6531 §4.3)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from mailguard.model.envelope import Envelope
from mailguard.model.message import Message
from mailguard.model.session import Role, Session


def with_keyword(session: Session, *, smtputf8: bool = False) -> str:
    """The ``with`` keyword: ``SMTP``, ``ESMTPSA``, ``UTF8LMTPS``..."""
    if not session.esmtp:
        return "SMTP"
    base = "LMTP" if session.role is Role.LMTP else "SMTP" if smtputf8 else "ESMTP"
    secured = ("S" if session.tls else "") + ("A" if session.authenticated else "")
    return ("UTF8" if smtputf8 else "") + base + secured


def received(session: Session, envelope: Envelope, hostname: str, now: float, *, hide_client: bool = True) -> bytes:
    """Our Received field. The address of a user who submits mail is nobody's business and left out, unless
    ``hide_client`` is off; ``for`` names the recipient only where there is just one (RFC 5321 §7.2)."""
    if session.authenticated and hide_client:
        client = f"from {hostname}"
    else:
        literal = f"[IPv6:{session.peer_ip}]" if ":" in session.peer_ip else f"[{session.peer_ip}]"
        name = f"{session.ptr} {literal}" if session.ptr else literal
        client = f"from {session.helo or 'unknown'} ({name})"
    tls = f" ({session.tls.version} {session.tls.cipher})" if session.tls else ""
    lines = [
        f"Received: {client}",
        f"\tby {hostname} with {with_keyword(session, smtputf8=envelope.smtputf8)}{tls} id {envelope.id}",
    ]
    if len(envelope.recipients) == 1:
        lines.append(f"\tfor <{envelope.recipients[0].address}>")
    lines[-1] += ";"
    lines.append("\t" + _date(int(now)))
    return ("\r\n".join(lines) + "\r\n").encode("utf-8", "replace")


@lru_cache(maxsize=2)
def _date(at: int) -> str:
    return format_datetime(datetime.fromtimestamp(at, UTC))


def return_path(envelope: Envelope) -> bytes:
    """Return-Path, for final delivery."""
    return f"Return-Path: <{envelope.reverse_path}>\r\n".encode()


def delivered_to(address: str) -> bytes:
    """Delivered-To, our loop marker (RFC 9228)."""
    return f"Delivered-To: {address}\r\n".encode()


def loops_at(message: Message, address_key: str) -> bool:
    """Whether our marker says that the message has been at this address before; case is ignored."""
    return any(field.value.casefold() == address_key for field in message.get_all("Delivered-To"))


def hops(message: Message) -> int:
    """How many servers the message has passed (RFC 5321 §6.3)."""
    return len(message.get_all("Received"))
