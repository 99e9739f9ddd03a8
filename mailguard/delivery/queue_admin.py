"""What an operator sees of the queue and does to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mailguard.delivery.queue import Queue
from mailguard.delivery.queue_entry import QueuedMessage, QueuedRecipient, message_from, recipient_from
from mailguard.delivery.queue_sql import drop_finished
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope
from mailguard.model.message import Message
from mailguard.model.reply import Reply
from mailguard.state.queue import HELD, QUEUED, URGENT, queue_message, queue_recipient

_m = queue_message.c
_r = queue_recipient.c
_PAGE = 500
_COLUMNS: tuple[Any, ...] = (queue_recipient, *(column for column in queue_message.c if column.name != "id"))


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are meant; empty fields fit everything. ``id`` is a queue id or the message's id."""

    id: str = ""
    sender: str = ""
    recipient: str = ""
    destination: str = ""
    held: bool | None = None
    older_than: float = 0.0  # seconds since it came in

    def conditions(self, now: float) -> list[sa.ColumnElement[bool]]:
        """The filter in SQL."""
        found: list[sa.ColumnElement[bool]] = []
        if self.id:
            found.append(sa.or_(_m.id == self.id, _m.envelope_id == self.id))
        if self.sender:
            found.append(_m.mail_from.is_(None) if self.sender == "<>" else _matches(_m.mail_from, self.sender))
        if self.recipient:
            found.append(_matches(_r.local + "@" + _r.domain, self.recipient))
        if self.destination:
            found.append(_r.destination == self.destination)
        if self.held is not None:
            found.append(_r.state == (HELD if self.held else QUEUED))
        if self.older_than:
            found.append(_m.created < now - self.older_than)
        return found


def _matches(column: Any, wanted: str) -> sa.ColumnElement[bool]:
    text = sa.func.lower(column)
    # A bare domain, or an address.
    return text == wanted.lower() if "@" in wanted else text.endswith("@" + wanted.lower(), autoescape=True)


@dataclass(frozen=True, slots=True)
class DestinationView:
    """One destination: recipients waiting and held, when the next is due, the last answer and who gave it."""

    name: str
    waiting: int
    held: int
    oldest: float
    next_at: float
    last: Reply | None
    last_host: str
    last_at: float


class QueueAdmin:
    """Reads and changes the queue from another process, beside a running runner."""

    def __init__(self, queue: Queue, now: Callable[[], float] = time.time) -> None:
        self._queue = queue
        self._database = queue.database
        self._now = now

    def close(self) -> None:
        """Closes the database; for a process of its own only."""
        self._database.close()

    def entries(self, wanted: Filter) -> Iterator[tuple[QueuedMessage, QueuedRecipient]]:
        """Everything that fits, oldest first, read page by page."""
        last = 0
        conditions = wanted.conditions(self._now())
        while True:
            query = (
                sa.select(*_COLUMNS)
                .join(queue_message, _m.id == _r.message_id)
                .where(_r.id > last, *conditions)
                .order_by(_r.id)
                .limit(_PAGE)
            )
            with self._database.read() as connection:
                rows = connection.execute(query).all()
            for row in rows:
                yield message_from(row), recipient_from(row)
            if len(rows) < _PAGE:
                return
            last = rows[-1].id

    def message(self, ident: str) -> Message:
        """The message of this queue id. Raises OSError."""
        return self._queue.bodies.read(ident)

    def destinations(self) -> list[DestinationView]:
        """One line per destination, the fullest first."""
        held = sa.func.sum(sa.case((_r.state == HELD, 1), else_=0))
        due = sa.func.min(sa.case((_r.state == QUEUED, _r.due_at), else_=None))
        newest = sa.func.max(_r.last_at)
        query = (
            sa.select(_r.destination, sa.func.count(), held, sa.func.min(_m.created), due, newest)
            .join(queue_message, _m.id == _r.message_id)
            .group_by(_r.destination)
            .order_by(sa.func.count().desc(), _r.destination)
        )
        with self._database.read() as connection:
            return [self._view(connection, *row) for row in connection.execute(query).all()]

    def _view(
        self, connection: sa.Connection, name: str, count: int, held: int, oldest: float, due: float, newest: float
    ) -> DestinationView:
        last: Reply | None = None
        host = ""
        if newest:
            query = sa.select(queue_recipient).where(_r.destination == name, _r.last_at == newest).limit(1)
            entry = recipient_from(connection.execute(query).one())
            last, host = entry.last, entry.last_host
        return DestinationView(name, count - held, held, oldest, due or 0.0, last, host, newest or 0.0)

    # -- changes: each returns how many recipients it concerned ------------------------------------------------

    def retry(self, wanted: Filter) -> int:
        """Makes what waits due at once, even where its destination is left alone; what is held stays held."""
        count = self._change(wanted, _r.state == QUEUED, _r.lease_by == "", values={"due_at": URGENT})
        self._queue.bodies.ring()
        return count

    def hold(self, wanted: Filter, reason: str) -> int:
        """Keeps it from being sent until it is released; what is being sent right now is not stopped."""
        return self._change(
            wanted, _r.state == QUEUED, _r.lease_by == "", values={"state": HELD, "hold_reason": reason}
        )

    def release(self, wanted: Filter) -> int:
        """Lets what is held go, at once."""
        values = {"state": QUEUED, "hold_reason": "", "due_at": URGENT}
        count = self._change(wanted, _r.state == HELD, values=values)
        self._queue.bodies.ring()
        return count

    def reroute(self, wanted: Filter, destination: str) -> int:
        """Sends it another way: a domain whose MX to ask, or ``[host]:port``; due at once."""
        values = {"destination": destination, "rerouted": True, "due_at": URGENT}
        count = self._change(wanted, _r.lease_by == "", values=values)
        self._queue.bodies.ring()
        return count

    def drop(self, wanted: Filter) -> int:
        """Deletes it for good, without a report to anybody."""
        with self._database.write(durable=True) as connection:
            query = self._ids(wanted, _r.lease_by == "")
            rows = connection.execute(query.add_columns(_r.message_id)).all()
            for at in range(0, len(rows), _PAGE):
                ids = [row[0] for row in rows[at : at + _PAGE]]
                connection.execute(sa.delete(queue_recipient).where(_r.id.in_(ids)))
            gone = drop_finished(connection, {row[1] for row in rows})
        for stem in gone:
            self._queue.bodies.discard(stem)
        return len(rows)

    def refresh_destinations(self, destination: Callable[[Envelope, Address], str]) -> int:
        """Recomputes the destination of what was not rerouted by hand, after the routes have changed."""
        count = 0
        query = sa.select(_m.sender_domain, _r.domain, _r.destination).distinct()
        query = query.join(queue_message, _m.id == _r.message_id).where(_r.rerouted.is_(False))
        with self._database.write() as connection:
            for sender, domain, current in connection.execute(query).all():
                envelope = Envelope("", Address("postmaster", sender) if sender else None)
                wanted = destination(envelope, Address("postmaster", domain))
                if wanted != current:
                    of_sender = sa.select(_m.id).where(_m.sender_domain == sender)
                    change = sa.update(queue_recipient).where(
                        _r.domain == domain,
                        _r.destination == current,
                        _r.rerouted.is_(False),
                        _r.message_id.in_(of_sender),
                    )
                    count += connection.execute(change.values(destination=wanted)).rowcount
        return count

    def _ids(self, wanted: Filter, *more: sa.ColumnElement[bool]) -> sa.Select[Any]:
        return (
            sa.select(_r.id).join(queue_message, _m.id == _r.message_id).where(*wanted.conditions(self._now()), *more)
        )

    def _change(self, wanted: Filter, *more: sa.ColumnElement[bool], values: dict[str, Any]) -> int:
        with self._database.write(durable=True) as connection:
            change = sa.update(queue_recipient).where(_r.id.in_(self._ids(wanted, *more))).values(**values)
            return connection.execute(change).rowcount
