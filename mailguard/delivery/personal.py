"""What happens beside a delivery because the mailbox's owner wants it: forwards and out-of-office replies."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from mailguard.auth.accounts import Account
from mailguard.delivery import vacation
from mailguard.delivery.attempt import Sign
from mailguard.delivery.forward import Forwarder
from mailguard.delivery.forwarding import Forward, Forwards
from mailguard.delivery.queue import Queue
from mailguard.delivery.vacation import Vacations
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message


@dataclass(frozen=True)
class Personal:
    """Called by local delivery for what goes into an INBOX. Never raises: a delivery must not fail of it.

    ``sign`` adds our DKIM signature for a domain to a reply; ``note(id, kind, who, text)`` writes into the message's
    story.
    """

    vacations: Vacations
    forwards: Forwards
    forwarder: Forwarder
    queue: Queue
    hostname: str
    new_id: Callable[[], str]
    log: Any
    sign: Sign = lambda message, domain: message
    note: Callable[[str, str, str, str], None] = lambda id, kind, who, text: None
    now: Callable[[], float] = time.time

    def moves_on(self, envelope: Envelope, message: Message, account: Account) -> bool:
        """Sends the message on where the owner wants no copy here; False where it is to be delivered, too."""
        wanted = self._forward(envelope, message, account)
        if wanted is None or wanted.keep or not self._send_on(envelope, message, account, wanted):
            return False
        self._answer(envelope, message, account)
        return True

    def delivered(self, envelope: Envelope, message: Message, account: Account) -> None:
        """Sends a copy on and answers, as the owner wants it, after the message has reached the mailbox."""
        wanted = self._forward(envelope, message, account)
        if wanted is not None and wanted.keep:
            self._send_on(envelope, message, account, wanted)
        self._answer(envelope, message, account)

    def _forward(self, envelope: Envelope, message: Message, account: Account) -> Forward | None:
        try:
            wanted = self.forwards.active(account.key)
        except sa.exc.SQLAlchemyError as error:
            self.log.error(
                "forwards cannot be read; delivered here only", id=envelope.id, account=account.key, error=str(error)
            )
            return None
        if wanted is None:
            return None
        # It has been here before where two forwards point at each other.
        return None if self.forwarder.loops(message, account.address) else wanted

    def _send_on(self, envelope: Envelope, message: Message, account: Account, wanted: Forward) -> bool:
        # With a copy here nothing is lost if the other one does not arrive, and the sender need not hear of it.
        notify = frozenset({"NEVER"}) if wanted.keep else frozenset[str]()
        onward = replace(envelope, hold_until=0)
        try:
            self.forwarder.send_on(onward, message, Recipient(account.address, notify), wanted.targets)
        except (OSError, sa.exc.SQLAlchemyError) as error:
            self.log.error("not forwarded; kept here", id=envelope.id, account=account.key, error=str(error))
            return False
        targets = ", ".join(map(str, wanted.targets))
        self.log.info("forwarded", id=envelope.id, account=account.key, to=targets)
        self.note(envelope.id, "forwarded", account.key, targets)
        return True

    def _answer(self, envelope: Envelope, message: Message, account: Account) -> None:
        try:
            value = self.vacations.active(account.key)
            if value is None or envelope.mail_from is None:
                return
            if reason := vacation.why_not(envelope, message, account):
                self.note(envelope.id, "not answered", account.key, reason)
                return
            if not self.vacations.first_this_week(account.key, envelope.mail_from.key):
                self.note(envelope.id, "not answered", account.key, f"{envelope.mail_from} was told within a week")
                return
            ident = self.new_id()
            answer, text, recipient = vacation.reply(
                value, envelope, message, account, ident=ident, hostname=self.hostname, now=self.now()
            )
            self.queue.put(answer, self.sign(text, vacation.author(message, account).domain), [recipient])
            told = str(recipient.address)
            self.log.info("out-of-office reply", id=envelope.id, reply=ident, account=account.key, to=told)
            self.note(envelope.id, "answered", account.key, f"{told}, as {ident}")
        except (OSError, ValueError, sa.exc.SQLAlchemyError) as error:
            self.log.error("no out-of-office reply", id=envelope.id, account=account.key, error=str(error))
