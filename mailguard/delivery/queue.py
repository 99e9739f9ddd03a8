"""The outbound queue: a body file and durable rows; whatever is in here survives pulling the plug."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mailguard.delivery import queue_sql as sql
from mailguard.delivery.queue_body import BodyFolder, needs_8bit, needs_utf8, tls_optional
from mailguard.delivery.queue_entry import Settlement, Work, group
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.event import Event, Held
from mailguard.model.message import Message
from mailguard.state.database import Database
from mailguard.state.queue import HELD, QUEUED, queue_message, queue_recipient

KEEP_ORPHANS = 7 * 86_400.0  # seconds
Destination = Callable[[Envelope, Address], str]
"""Which destination a recipient belongs to: a domain whose MX to ask, or ``[host]:port``."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message whose body is on disk, fsynced, and whose rows wait for a commit."""

    message: dict[str, Any]
    recipients: list[dict[str, Any]]


@dataclass(slots=True)
class _Ticket:
    prepared: Prepared
    done: bool = False
    error: Exception | None = None


def _domain_of(_envelope: Envelope, address: Address) -> str:
    return address.domain


class Queue:
    """The queue of one data folder. Safe for threads and for several processes.

    ``node`` names this machine; a runner's leases carry it, so that after a restart they are taken back at once.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        *,
        destination: Destination = _domain_of,
        sender_cap: int = 0,
        node: str = "local",
        emit: Callable[[Event], None] = lambda event: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.database = database
        self.bodies = BodyFolder(folder)
        self.destination = destination
        self.sender_cap = sender_cap
        self.node = node
        self._emit = emit
        self._now = now
        self.after_fork()

    def after_fork(self) -> None:
        """Forgets what belongs to the parent process."""
        self._lock = threading.Lock()
        self._leader = threading.Lock()
        self._waiting: list[_Ticket] = []
        self.lease = f"{self.node}:{secrets.token_hex(6)}"
        self.bodies.after_fork()

    # -- in ---------------------------------------------------------------------------------------------------

    def put(
        self,
        envelope: Envelope,
        message: Message,
        recipients: Sequence[Recipient],
        *,
        reason: str = "",
        hold: bool = False,
    ) -> None:
        """Takes over the message for these recipients; durable when it returns.

        ``hold`` keeps it until somebody releases it, ``reason`` says why. Raises OSError or
        sqlalchemy.exc.OperationalError (disk full, database locked); then nothing was taken.
        """
        if not recipients:
            return
        prepared = self.prepare(envelope, message, recipients, reason=reason, hold=hold)
        ticket = _Ticket(prepared)
        with self._lock:
            self._waiting.append(ticket)
        with self._leader:
            if not ticket.done:
                self._commit_waiting()
        if ticket.error is not None:
            self.bodies.discard(prepared.message["id"])
            raise ticket.error
        self._tell(prepared)

    def prepare(
        self,
        envelope: Envelope,
        message: Message,
        recipients: Sequence[Recipient],
        *,
        reason: str = "",
        hold: bool = False,
    ) -> Prepared:
        """Writes and fsyncs the body; the message is in the queue once its rows are committed (see settle)."""
        now = self._now()
        stem = self.bodies.write(envelope.id, message)
        row = {
            "id": stem,
            "envelope_id": envelope.id,
            "mail_from": None if envelope.mail_from is None else str(envelope.mail_from),
            "sender_domain": envelope.mail_from.domain if envelope.mail_from else "",
            "created": now,
            "size": len(message),
            "body_8bit": needs_8bit(message),
            "smtputf8": envelope.smtputf8 and needs_utf8(envelope, message, recipients),
            "require_tls": envelope.require_tls,
            "tls_optional": tls_optional(message) and not envelope.require_tls,
            "ret": envelope.ret,
            "envid": envelope.envid,
        }
        state = HELD if hold else QUEUED
        return Prepared(row, [self._row(stem, envelope, r, state, reason, now) for r in recipients])

    def _row(
        self, stem: str, envelope: Envelope, recipient: Recipient, state: int, reason: str, now: float
    ) -> dict[str, Any]:
        return {
            "message_id": stem,
            "local": recipient.address.local,
            "domain": recipient.address.domain,
            "notify": " ".join(sorted(recipient.notify)),
            "orcpt": recipient.orcpt,
            "mailbox": recipient.mailbox,
            "destination": self.destination(envelope, recipient.address),
            "state": state,
            "hold_reason": reason,
            "due_at": max(now, float(envelope.hold_until)),
        }

    def _commit_waiting(self) -> None:
        # The first thread to come here commits for all who queued up behind the commit before.
        with self._lock:
            tickets, self._waiting = self._waiting, []
        try:
            self._insert([t.prepared for t in tickets])
        except Exception as error:
            if len(tickets) == 1:
                tickets[0].error = error
            else:
                self._insert_singly(tickets)
        for ticket in tickets:
            ticket.done = True

    def _insert_singly(self, tickets: list[_Ticket]) -> None:
        for ticket in tickets:
            try:
                self._insert([ticket.prepared])
            except Exception as error:
                ticket.error = error

    def _insert(self, prepared: Sequence[Prepared]) -> None:
        with self.database.write(durable=True) as connection:
            self.insert_rows(connection, prepared)

    def insert_rows(self, connection: sa.Connection, prepared: Sequence[Prepared]) -> None:
        """Adds the rows of prepared messages to a transaction, held where their sender is over its cap."""
        if self.sender_cap:
            for one in prepared:
                sql.apply_cap(connection, one.message, one.recipients, self.sender_cap)
        connection.execute(sql.INSERT_MESSAGE, [one.message for one in prepared])
        connection.execute(sql.INSERT_RECIPIENT, [row for one in prepared for row in one.recipients])

    def _tell(self, prepared: Prepared) -> None:
        held = [row for row in prepared.recipients if row["state"] == HELD]
        if held:
            self._emit(Held(self._now(), prepared.message["envelope_id"], held[0]["hold_reason"]))
        if len(held) < len(prepared.recipients):
            self.bodies.ring()

    # -- out --------------------------------------------------------------------------------------------------

    def due(self, now: float) -> list[tuple[str, float]]:
        """Every destination with something queued, with the Unix time at which its first recipient is due."""
        with self.database.read() as connection:
            return [(row[0], row[1]) for row in connection.execute(sql.DUE) if row[1] is not None]

    def claim(self, destination: str, *, limit: int, lease_seconds: float) -> list[Work]:
        """Leases up to ``limit`` due recipients of one destination to this runner, oldest first."""
        now = self._now()
        with self.database.write() as connection:
            rows = connection.execute(
                sql.CLAIM,
                {"dest": destination, "now": now, "until": now + lease_seconds, "lease": self.lease, "most": limit},
            ).all()
            if not rows:
                return []
            found = connection.execute(sql.LEASED, {"rows": [row[0] for row in rows]}).all()
        return group(found)

    def renew(self, rows: Sequence[int], until: float) -> bool:
        """Lengthens this runner's leases; False if any of them has been lost to somebody else."""
        with self.database.write() as connection:
            done = connection.execute(sql.RENEW, {"rows": list(rows), "until": until, "lease": self.lease})
            return done.rowcount == len(rows)

    def settle(self, settlements: Sequence[Settlement], notices: Sequence[Prepared] = ()) -> None:
        """Records how attempts ended, with the notices they call for, in one durable commit.

        Finished messages lose their body afterwards. Raises sqlalchemy.exc.OperationalError.
        """
        done = [s for s in settlements if s.retry_at is None]
        later = [s for s in settlements if s.retry_at is not None]
        gone: list[str] = []
        with self.database.write(durable=True) as connection:
            if notices:
                self.insert_rows(connection, notices)
            if later:
                connection.execute(sql.DEFER, [self._deferral(s) for s in later])
            if done:
                connection.execute(sql.FINISH, [{"row": s.row, "lease": self.lease} for s in done])
                gone = sql.drop_finished(connection, {s.message_id for s in done})
        for stem in gone:
            self.bodies.discard(stem)
        for notice in notices:
            self._tell(notice)

    def _deferral(self, settlement: Settlement) -> dict[str, Any]:
        return {
            "row": settlement.row,
            "lease": self.lease,
            "due": settlement.retry_at,
            "at": settlement.at,
            "code": settlement.reply.code,
            "status": settlement.reply.status,
            "text": settlement.reply.text[:1000],
            "host": settlement.host,
            "tls": settlement.tls,
            "delayed": settlement.delay_sent,
        }

    def unclaim(self, rows: Iterable[int]) -> None:
        """Gives leases back unused; the recipients are due again at once."""
        rows = list(rows)
        if rows:
            with self.database.write() as connection:
                connection.execute(sql.UNCLAIM, {"rows": rows, "until": self._now(), "lease": self.lease})

    def take_back(self) -> int:
        """Frees the leases of earlier runners of this node; returns how many. To be called as a runner starts."""
        with self.database.write() as connection:
            done = connection.execute(
                sa.update(queue_recipient)
                .where(queue_recipient.c.lease_by.startswith(self.node + ":", autoescape=True))
                .where(queue_recipient.c.lease_by != self.lease)
                .values(lease_by="", due_at=self._now())
            )
            return done.rowcount

    def sweep(self, *, older_than: float) -> int:
        """Sets aside body files without rows that are older than this Unix time; returns how many.

        Mostly a crash left them before the 250 was said or after the mail was delivered. But rows may also be gone
        with a lost or restored state database, so nothing is deleted before a week has passed.
        """
        self.bodies.forget_orphans(older_than - KEEP_ORPHANS)
        aside = 0
        for stems in self.bodies.old(older_than):
            with self.database.read() as connection:
                query = sa.select(queue_message.c.id).where(queue_message.c.id.in_(stems))
                known = set(connection.execute(query).scalars())
            for stem in set(stems) - known:
                self.bodies.set_aside(stem)
                aside += 1
        return aside
