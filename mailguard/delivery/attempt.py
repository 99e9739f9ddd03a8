"""One attempt on one message: send it, then decide for each recipient what follows."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import sqlalchemy as sa

from mailguard.delivery.bounce import Fate, Reporter, wanted
from mailguard.delivery.cure import cure
from mailguard.delivery.queue import Prepared, Queue
from mailguard.delivery.queue_entry import QueuedMessage, QueuedRecipient, Settlement, Work
from mailguard.delivery.relay import Relay, Sent
from mailguard.delivery.relay_settings import DestinationSettings, QueueSettings
from mailguard.delivery.schedule import Schedule, Step
from mailguard.delivery.settler import Settled, Settler
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.event import Bounced, Deferred, Delivered, Event
from mailguard.model.message import Message
from mailguard.model.reply import Reply

_LOOKS = 3  # for a body that is missing
_OUR_FAULT = 300.0  # seconds to wait when the fault is this machine's


class LocalHand(Protocol):
    """Delivers to our own accounts what had to wait in the queue."""

    def is_local(self, domain: str) -> bool:
        """Whether the domain is ours."""
        ...

    def deliver(self, envelope: Envelope, message: Message, recipients: Sequence[Recipient]) -> Sequence[Reply]:
        """One reply per recipient; never raises for what can go wrong with a mailbox."""
        ...


Sign = Callable[[Message, str], Message]
"""Adds our DKIM signature for a domain of ours to a message that we write ourselves."""


@dataclass(slots=True)
class _Outcome:
    settlements: list[Settlement]
    events: list[Event]
    fates: list[Fate]


class Attempt:
    """What the runner does with each piece of work. Safe for threads."""

    def __init__(
        self,
        queue: Queue,
        relay: Relay,
        settler: Settler,
        settings: QueueSettings,
        reporter: Reporter,
        *,
        exception: Callable[[str], DestinationSettings],
        new_id: Callable[[], str],
        log: Any,
        local: LocalHand | None = None,
        sign: Sign = lambda message, domain: message,
        now: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.relay = relay
        self._queue = queue
        self._settler = settler
        self._settings = settings
        self._reporter = reporter
        self._exception = exception
        self._new_id = new_id
        self._log = log
        self._local = local
        self._sign = sign
        self._now = now
        self._chance = chance

    def make(self, work: Work, blocked: Reply | None = None) -> Sent:
        """Sends the message, unless ``blocked`` is the answer already; hands what follows to the settler."""
        try:
            message = self._queue.bodies.read(work.message.id)
        except FileNotFoundError:
            return self._missing(work)
        except OSError as error:
            self._log.error("a queued message cannot be read", **_named(work), error=str(error), cure=cure(error))
            reply = Reply.of(451, "4.3.0", f"our copy of the message cannot be read: {error.strerror}")
            self._put_off(work, reply)
            return Sent((reply,) * len(work.recipients), local=True)
        sent = self._send(work, message, blocked)
        self._settle(work, message, sent)
        return sent

    def _missing(self, work: Work) -> Sent:
        # Perhaps a file system is not mounted yet: three looks, then its sender must be told.
        patience = max(r.attempts for r in work.recipients) < _LOOKS
        self._log.error(
            "a queued message is missing", **_named(work), file=str(self._queue.bodies.path(work.message.id))
        )
        if patience:
            reply = Reply.of(451, "4.3.0", "our copy of the message is missing")
            self._put_off(work, reply)
        else:
            reply = Reply.of(554, "5.3.0", "our copy of the message has been lost: please send it again")
            self._settle(work, Message(b""), Sent((reply,) * len(work.recipients), local=True))
        return Sent((reply,) * len(work.recipients), local=True)

    def _send(self, work: Work, message: Message, blocked: Reply | None) -> Sent:
        domain = work.recipients[0].recipient.address.domain
        if self._local is not None and self._local.is_local(domain):
            replies = self._local.deliver(work.message.envelope, message, [r.recipient for r in work.recipients])
            return Sent(tuple(replies), local=True)
        if blocked is not None:
            return Sent((blocked,) * len(work.recipients))
        return self.relay.send(work, message)

    def _put_off(self, work: Work, reply: Reply) -> None:
        now = self._now()
        at = now + _OUR_FAULT
        self._settler.add(
            Settled(
                [Settlement(work.message.id, r.row, reply, now, retry_at=at) for r in work.recipients],
                events=[
                    Deferred(now, work.message.envelope.id, str(r.recipient.address), reply, at)
                    for r in work.recipients
                ],
            )
        )

    # -- what follows -----------------------------------------------------------------------------------------

    def _settle(self, work: Work, message: Message, sent: Sent) -> None:
        outcome = _Outcome([], [], [])
        for recipient, reply in zip(work.recipients, sent.replies, strict=True):
            if reply.ok:
                self._delivered(work.message, recipient, reply, sent, outcome)
            elif reply.temporary:
                self._temporary(work.message, recipient, reply, sent, outcome)
            else:
                self._gone(work.message, recipient, reply, sent, outcome)
        try:
            notices = self._notices(work.message, message, outcome)
        except (OSError, sa.exc.SQLAlchemyError) as error:
            # The report cannot be written, so its recipient stays in the queue: nobody is dropped in silence.
            self._log.error("a delivery report cannot be written", **_named(work), error=str(error), cure=cure(error))
            self._put_off(work, Reply.of(451, "4.3.1", "our disk is full"))
            return
        self._settler.add(Settled(outcome.settlements, notices, outcome.events))

    def _delivered(
        self, message: QueuedMessage, recipient: QueuedRecipient, reply: Reply, sent: Sent, outcome: _Outcome
    ) -> None:
        now = self._now()
        outcome.settlements.append(Settlement(message.id, recipient.row, reply, now, host=sent.host, tls=sent.tls))
        where = sent.host or "local"
        outcome.events.append(Delivered(now, message.envelope.id, str(recipient.recipient.address), where, reply))
        if not sent.keeps_dsn:
            outcome.fates.append(Fate(recipient, "delivered" if sent.local else "relayed", reply, sent.host))

    def _temporary(
        self, message: QueuedMessage, recipient: QueuedRecipient, reply: Reply, sent: Sent, outcome: _Outcome
    ) -> None:
        now = self._now()
        schedule = self._schedule(recipient.destination)
        step, at = schedule.next(
            created=message.created,
            now=now,
            attempts=recipient.attempts + 1,
            chance=self._chance(),
            delay_sent=recipient.delay_sent,
        )
        if step is Step.GIVE_UP:
            self._gone(message, recipient, reply, sent, outcome)
            return
        tell = step is Step.RETRY_AND_TELL
        if tell:
            until = message.created + schedule.give_up
            outcome.fates.append(Fate(recipient, "delayed", reply, sent.host, retry_until=until))
        outcome.settlements.append(
            Settlement(message.id, recipient.row, reply, now, at, sent.host, sent.tls, tell or recipient.delay_sent)
        )
        outcome.events.append(Deferred(now, message.envelope.id, str(recipient.recipient.address), reply, at))

    def _gone(
        self, message: QueuedMessage, recipient: QueuedRecipient, reply: Reply, sent: Sent, outcome: _Outcome
    ) -> None:
        now = self._now()
        outcome.settlements.append(Settlement(message.id, recipient.row, reply, now, host=sent.host, tls=sent.tls))
        outcome.fates.append(Fate(recipient, "failed", reply, sent.host))

    def _schedule(self, destination: str) -> Schedule:
        s, own = self._settings, self._exception(destination)
        return Schedule(
            first=s.first_retry,
            longest=s.longest_retry,
            growth=s.growth,
            jitter=s.jitter,
            delay_notice=s.delay_notice if own.delay_notice is None else own.delay_notice,
            give_up=own.give_up or s.give_up,
        )

    def _notices(self, queued: QueuedMessage, message: Message, outcome: _Outcome) -> list[Prepared]:
        notices: list[Prepared] = []
        now = self._now()
        for action in ("failed", "delayed", "delivered", "relayed"):
            fates = [f for f in outcome.fates if f.action == action]
            told = [f for f in fates if wanted(f.recipient.recipient, action)]
            ident = ""
            if told and queued.envelope.mail_from is not None:
                ident = self._new_id()
                envelope, report, to = self._reporter.report(ident, queued, message, told, now)
                notices.append(self._queue.prepare(envelope, self._sign(report, self._reporter.hostname), [to]))
            if action == "failed":
                outcome.events += [
                    Bounced(
                        now, queued.envelope.id, str(f.recipient.recipient.address), f.reply, ident if f in told else ""
                    )
                    for f in fates
                ]
        return notices


def _named(work: Work) -> dict[str, str]:
    return {"id": work.message.envelope.id, "entry": work.message.id}
