"""The queue's statements, built once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from mailguard.state.queue import HELD, QUEUED, queue_message, queue_recipient, queue_sender

_m = queue_message.c
_r = queue_recipient.c

INSERT_MESSAGE = queue_message.insert()
INSERT_RECIPIENT = queue_recipient.insert()


def _due() -> sa.Select[Any]:
    # A loose index scan: two look-ups per destination, however many recipients wait.
    queued = queue_recipient.alias().c
    first = sa.select(sa.func.min(_r.destination).label("name")).where(_r.state == QUEUED)
    names = first.cte("names", recursive=True)
    following = (
        sa.select(sa.func.min(queued.destination))
        .where(queued.state == QUEUED, queued.destination > names.c.name)
        .scalar_subquery()
    )
    names = names.union_all(sa.select(following).where(names.c.name.is_not(None)))
    other = queue_recipient.alias().c
    soonest = (
        sa.select(sa.func.min(other.due_at))
        .where(other.state == QUEUED, other.destination == names.c.name)
        .scalar_subquery()
    )
    return sa.select(names.c.name, soonest).where(names.c.name.is_not(None))


DUE = _due()

CLAIM = (
    sa.update(queue_recipient)
    .where(
        _r.id.in_(
            sa.select(_r.id)
            .where(_r.state == QUEUED, _r.destination == sa.bindparam("dest"), _r.due_at <= sa.bindparam("now"))
            .order_by(_r.due_at)
            .limit(sa.bindparam("most"))
            .with_for_update(skip_locked=True)
        )
    )
    .values(lease_by=sa.bindparam("lease"), due_at=sa.bindparam("until"))
    .returning(_r.id)
)

LEASED = (
    sa.select(queue_recipient, *(column for column in queue_message.c if column.name != "id"))
    .join(queue_message, _m.id == _r.message_id)
    .where(_r.id.in_(sa.bindparam("rows", expanding=True)))
    .order_by(_r.id)
)

RENEW = (
    sa.update(queue_recipient)
    .where(_r.id.in_(sa.bindparam("rows", expanding=True)), _r.lease_by == sa.bindparam("lease"))
    .values(due_at=sa.bindparam("until"))
)

UNCLAIM = RENEW.values(lease_by="")

DEFER = (
    sa.update(queue_recipient)
    .where(_r.id == sa.bindparam("row"), _r.lease_by == sa.bindparam("lease"))
    .values(
        lease_by="",
        due_at=sa.bindparam("due"),
        attempts=_r.attempts + 1,
        last_at=sa.bindparam("at"),
        last_code=sa.bindparam("code"),
        last_status=sa.bindparam("status"),
        last_text=sa.bindparam("text"),
        last_host=sa.bindparam("host"),
        last_tls=sa.bindparam("tls"),
        delay_sent=sa.bindparam("delayed"),
    )
)

FINISH = sa.delete(queue_recipient).where(_r.id == sa.bindparam("row"), _r.lease_by == sa.bindparam("lease"))

_DROP = (
    sa.delete(queue_message)
    .where(
        _m.id.in_(sa.bindparam("ids", expanding=True)),
        ~sa.exists(sa.select(sa.literal(1)).where(_r.message_id == _m.id).correlate(queue_message)),
    )
    .returning(_m.id)
)


def drop_finished(connection: sa.Connection, ids: Iterable[str]) -> list[str]:
    """Deletes those of these messages that have no recipient left; returns their ids."""
    gone: list[str] = []
    wanted = list(ids)
    for at in range(0, len(wanted), 500):
        gone += connection.execute(_DROP, {"ids": wanted[at : at + 500]}).scalars()
    return gone


def apply_cap(connection: sa.Connection, message: dict[str, Any], recipients: list[dict[str, Any]], cap: int) -> None:
    """Counts the recipients for their sender's hour and holds those of a message that goes over the cap."""
    if message["mail_from"] is None:
        return
    sender, hour = message["mail_from"].casefold(), int(message["created"] // 3600)
    c = queue_sender.c
    this = sa.and_(c.sender == sender, c.hour == hour)
    count = connection.execute(sa.select(c.recipients).where(this)).scalar()
    total = (count or 0) + len(recipients)
    if count is None:
        connection.execute(sa.delete(queue_sender).where(c.hour < hour))
        connection.execute(queue_sender.insert().values(sender=sender, hour=hour, recipients=total))
    else:
        connection.execute(sa.update(queue_sender).where(this).values(recipients=total))
    if total > cap:
        for row in recipients:
            row["state"] = HELD
            row["hold_reason"] = f"{message['mail_from']} mailed {total} recipients this hour; the cap is {cap}"
