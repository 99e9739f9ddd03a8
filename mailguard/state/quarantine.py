"""Mail held by a verdict: it lies in the queue, on hold with the reason ``quarantine``, until somebody decides."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from mailguard.state.database import Database
from mailguard.state.queue import HELD, QUEUED, queue_message, queue_recipient

REASON = "quarantine"
"""What ``Queue.put(..., hold=True, reason=REASON)`` is given for it."""

_M, _R = queue_message.c, queue_recipient.c
_HELD = sa.and_(_R.state == HELD, _R.hold_reason == REASON)


@dataclass(frozen=True, slots=True)
class HeldMail:
    """One message in quarantine; ``queue_id`` names its body file, ``id`` is that of its verdict."""

    queue_id: str
    id: str
    mail_from: str
    recipients: tuple[str, ...]
    size: int
    since: float


def held(database: Database, id: str = "") -> list[HeldMail]:
    """All that is held, oldest first; only the message ``id`` if given."""
    query = (
        sa.select(_M.id, _M.envelope_id, _M.mail_from, _M.size, _M.created, _R.local, _R.domain)
        .join(queue_recipient, _R.message_id == _M.id)
        .where(_HELD)
        .order_by(_M.created, _M.id, _R.id)
    )
    if id:
        query = query.where(sa.or_(_M.envelope_id == id, _M.id == id))
    found: dict[str, HeldMail] = {}
    with database.read() as connection:
        for row in connection.execute(query):
            before = found[row.id].recipients if row.id in found else ()
            to = (*before, f"{row.local}@{row.domain}")
            found[row.id] = HeldMail(row.id, row.envelope_id, row.mail_from or "", to, row.size, row.created)
    return list(found.values())


def release(database: Database, mail: HeldMail, now: float) -> int:
    """Lets the queue deliver it at once; durable. Returns for how many recipients."""
    values = {"state": QUEUED, "due_at": now, "hold_reason": ""}
    with database.write(durable=True) as connection:
        return connection.execute(
            sa.update(queue_recipient).where(_R.message_id == mail.queue_id, _HELD).values(values)
        ).rowcount


def drop(database: Database, mail: HeldMail) -> bool:
    """Takes it out of the queue; durable. Returns whether its body file is no longer needed by anybody."""
    with database.write(durable=True) as connection:
        connection.execute(sa.delete(queue_recipient).where(_R.message_id == mail.queue_id, _HELD))
        left = connection.execute(sa.select(sa.func.count()).where(_R.message_id == mail.queue_id)).scalar()
        if not left:
            connection.execute(sa.delete(queue_message).where(_M.id == mail.queue_id))
        return not left
