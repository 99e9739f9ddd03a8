"""What lies in the queue: messages, their recipients, and how an attempt on one of them ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.reply import Reply


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message in the queue.

    ``id`` names its body file; ``envelope`` is without recipients; ``created`` is a Unix time; ``size`` in
    octets; ``tls_optional`` says that it carries ``TLS-Required: No`` (RFC 8689 §3).
    """

    id: str
    envelope: Envelope
    created: float
    size: int
    tls_optional: bool = False


@dataclass(frozen=True, slots=True)
class QueuedRecipient:
    """One recipient still to be served; ``row`` is its key, ``last`` the last answer, ``last_host`` who gave it."""

    row: int
    recipient: Recipient
    destination: str
    attempts: int = 0
    due_at: float = 0.0
    delay_sent: bool = False
    held: bool = False
    hold_reason: str = ""
    lease_by: str = ""
    last: Reply | None = None
    last_at: float = 0.0
    last_host: str = ""
    last_tls: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """A message with the recipients that a claim leased, all for one destination."""

    message: QueuedMessage
    recipients: tuple[QueuedRecipient, ...]


@dataclass(frozen=True, slots=True)
class Settlement:
    """How an attempt on one recipient ended.

    ``retry_at`` None takes the recipient out of the queue (delivered, bounced, expired); otherwise it is the
    Unix time of the next attempt. ``host`` is who answered, ``tls`` what protected it, in words.
    """

    message_id: str
    row: int
    reply: Reply
    at: float
    retry_at: float | None = None
    host: str = ""
    tls: str = ""
    delay_sent: bool = False


def message_from(row: Any) -> QueuedMessage:
    """The message of a row of ``queue_message`` (or of a join whose ``message_id`` is its id)."""
    envelope = Envelope(
        id=row.envelope_id,
        mail_from=None if row.mail_from is None else Address.parse(row.mail_from),
        size=row.size,
        body_8bit=bool(row.body_8bit),
        smtputf8=bool(row.smtputf8),
        require_tls=bool(row.require_tls),
        ret=row.ret,
        envid=row.envid,
    )
    return QueuedMessage(row.message_id, envelope, row.created, row.size, bool(row.tls_optional))


def recipient_from(row: Any) -> QueuedRecipient:
    """The recipient of a row of ``queue_recipient``."""
    return QueuedRecipient(
        row=row.id,
        recipient=Recipient(Address(row.local, row.domain), frozenset(row.notify.split()), row.orcpt, row.mailbox),
        destination=row.destination,
        attempts=row.attempts,
        due_at=row.due_at,
        delay_sent=bool(row.delay_sent),
        held=row.state == 1,
        hold_reason=row.hold_reason,
        lease_by=row.lease_by,
        last=Reply(row.last_code, row.last_status, (row.last_text,)) if row.last_code else None,
        last_at=row.last_at,
        last_host=row.last_host,
        last_tls=row.last_tls,
    )


def group(rows: Sequence[Any]) -> list[Work]:
    """Joined rows as work, one per message, in the order in which the messages first appear."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row.message_id, []).append(row)
    return [Work(message_from(rows[0]), tuple(recipient_from(row) for row in rows)) for rows in found.values()]
