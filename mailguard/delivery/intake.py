"""Taking a message over: one file for all who have their mail here, queue entries for all else, then it is ours."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from mailguard.auth.accounts import Account
from mailguard.delivery.forward import Forwarder
from mailguard.delivery.local import LocalDelivery
from mailguard.delivery.queue import Queue
from mailguard.delivery.router import Route
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.model.reply import Reply
from mailguard.pipeline.verdict import Action, Verdict
from mailguard.state.quarantine import REASON

JUNK = "Junk"
"""The mailbox for what the policy calls junk, where its owner uses no other for it."""


@dataclass(frozen=True, slots=True)
class Taken:
    """Where the message went, by recipient key, and the recipients that could not be served at all."""

    where: dict[str, str]
    failed: dict[str, Reply] = field(default_factory=dict)


@dataclass(slots=True)
class _Plan:
    """``boxes``: mailbox -> accounts; ``here``: the recipients these are for; ``queued``: reason to hold -> recipients;
    ``onward``: whose aliases send on."""

    boxes: defaultdict[str, dict[str, Account]] = field(default_factory=lambda: defaultdict(dict))
    queued: defaultdict[str, dict[str, Recipient]] = field(default_factory=lambda: defaultdict(dict))
    here: dict[str, Recipient] = field(default_factory=dict)
    onward: list[Recipient] = field(default_factory=list)
    where: dict[str, list[str]] = field(default_factory=dict)


class Intake:
    """Makes messages durable."""

    def __init__(
        self, local: LocalDelivery, forwarder: Forwarder, queue: Queue, *, now: Callable[[], float] = time.time
    ) -> None:
        self._local = local
        self._forwarder = forwarder
        self._queue = queue
        self._now = now

    def take(
        self,
        envelope: Envelope,
        message: Message,
        routes: Mapping[str, Route],
        verdict: Verdict,
        *,
        hold: str = "",
        may_fail: bool = False,
    ) -> Taken:
        """Delivers or queues for every recipient; durable when it returns. Raises OSError, SQLAlchemyError where
        even the queue fails; then the client must be told to come again.

        ``hold`` is why all of it is to wait for somebody's decision. With ``may_fail`` a recipient whose mailboxes
        cannot take it fails instead of being queued (LMTP, where the client has a queue of its own).
        """
        plan = _Plan()
        for recipient in {r.address.key: r for r in envelope.recipients}.values():  # some are named twice
            self._plan(plan, envelope, message, recipient, routes[recipient.address.key], verdict, hold)
        failed: dict[str, Reply] = {}
        for box in sorted(plan.boxes):  # INBOX before Junk
            owners = [a for a in plan.boxes[box].values() if box == "INBOX" or a.key not in plan.boxes["INBOX"]]
            failed |= self._local.deliver_to(envelope, message, owners, box)
        lost = self._put_off(plan, envelope, message, routes, failed, may_fail=may_fail) if failed else {}
        for reason, recipients in plan.queued.items():
            self._queue.put(envelope, message, list(recipients.values()), reason=reason, hold=bool(reason))
        for recipient in plan.onward:
            self._forwarder.send_on(envelope, message, recipient, routes[recipient.address.key].remote)
        return Taken({key: ", ".join(places) for key, places in plan.where.items()}, lost)

    def _plan(
        self,
        plan: _Plan,
        envelope: Envelope,
        message: Message,
        recipient: Recipient,
        route: Route,
        verdict: Verdict,
        hold: str,
    ) -> None:
        key = recipient.address.key
        action = verdict.action_for(key)
        junk = action is Action.JUNK
        if junk and route.accounts:
            recipient = replace(recipient, mailbox=JUNK)
        # Nobody wants junk sent on, and nobody may lose it.
        reason = hold or (REASON if action is Action.QUARANTINE or (junk and not route.accounts) else "")
        relayed = bool(route.remote) and not route.forwarded
        where = plan.where.setdefault(key, [])
        if action is Action.DISCARD:
            where.append("discarded")
        elif reason or relayed:
            for address in route.remote if relayed else (recipient.address,):
                plan.queued[reason][address.key] = replace(recipient, address=address)
            where.append("held" if hold else "quarantine" if reason else "queue")
        elif self._waits(envelope, message, recipient, route):
            plan.queued[""][key] = recipient
            where.append("queue")
        else:
            plan.here[key] = recipient
            box = recipient.mailbox or "INBOX"
            plan.boxes[box] |= {account.key: account for account in route.accounts}
            where += [
                f"{account.key}/{self._local.used_for(account, box) if junk else box}" for account in route.accounts
            ]
            if route.remote:
                where.append("not sent on: junk" if junk else "queue")
                plan.onward += [] if junk else [recipient]

    def _waits(self, envelope: Envelope, message: Message, recipient: Recipient, route: Route) -> bool:
        """Whether a recipient of ours is left to the queue: for later, or to have its end reported to the sender
        (a success, RFC 3461 §5.2.3, or a loop that only some of the recipients are in)."""
        if envelope.hold_until > self._now() or "SUCCESS" in recipient.notify:
            return True
        return route.forwarded and self._forwarder.loops(message, recipient.address)

    def _put_off(
        self,
        plan: _Plan,
        envelope: Envelope,
        message: Message,
        routes: Mapping[str, Route],
        failed: Mapping[str, Reply],
        *,
        may_fail: bool,
    ) -> dict[str, Reply]:
        """Lets accounts that failed wait in the queue; returns the recipients that fail instead."""
        lost: dict[str, Reply] = {}
        waiting: set[str] = set()
        for key, recipient in plan.here.items():
            route = routes[key]
            bad = [account for account in route.accounts if account.key in failed]
            if may_fail and bad and len(bad) == len(route.accounts) and not route.remote:
                lost[key] = failed[bad[0].key]
                plan.where[key] = [f"refused: {lost[key]}"]
                continue
            new = [account for account in bad if account.key not in waiting]
            for mailbox in ("", JUNK):
                some = [a for a in new if (a.key in plan.boxes["INBOX"]) is (mailbox == "")]
                if some:
                    self._local.put_off(envelope, message, some, replace(recipient, mailbox=mailbox))
            waiting |= {account.key for account in new}
            plan.where[key] += ["queue"] * bool(bad)
        return lost
