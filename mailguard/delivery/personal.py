"""What happens beside a delivery because the mailbox's owner wants it: forwards and out-of-office replies."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from mailguard.auth.accounts import Account
from mailguard.delivery import vacation
from mailguard.delivery.forward import Forwarder
from mailguard.delivery.forwarding import Forward, Forwards
from mailguard.delivery.queue import Queue
from mailguard.delivery.vacation import Vacations
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message


@dataclass(frozen=True)
class Personal:
    """Called by local delivery for what goes into an INBOX. Never raises: a delivery must not fail of it."""

    vacations: Vacations
    forwards: Forwards
    forwarder: Forwarder
    queue: Queue
    hostname: str
    new_id: Callable[[], str]
    log: Any
    now: Callable[[], float] = time.time

    def moves_on(self, envelope: Envelope, message: Message, account: Account) -> bool:
        """Sends the message on where the owner wants no copy here; False where it is to be delivered, too."""
        wanted = self._forward(message, account)
        return wanted is not None and not wanted.keep and self._send_on(envelope, message, account, wanted)

    def delivered(self, envelope: Envelope, message: Message, account: Account) -> None:
        """Sends a copy on and answers, as the owner wants it, after the message has reached the mailbox."""
        wanted = self._forward(message, account)
        if wanted is not None and wanted.keep:
            self._send_on(envelope, message, account, wanted)
        self._answer(envelope, message, account)

    def _forward(self, message: Message, account: Account) -> Forward | None:
        try:
            wanted = self.forwards.active(account.key)
        except sa.exc.SQLAlchemyError as error:
            self.log.error("forwards cannot be read; delivered here only", account=account.key, error=str(error))
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
        self.log.info("forwarded", id=envelope.id, account=account.key, to=", ".join(map(str, wanted.targets)))
        return True

    def _answer(self, envelope: Envelope, message: Message, account: Account) -> None:
        try:
            value = self.vacations.active(account.key)
            if value is None or envelope.mail_from is None:
                return
            if reason := vacation.why_not(envelope, message, account):
                self.log.debug("no out-of-office reply", id=envelope.id, account=account.key, reason=reason)
                return
            if not self.vacations.first_this_week(account.key, envelope.mail_from.key):
                return
            ident = self.new_id()
            answer, text, recipient = vacation.reply(
                value, envelope, message, account, ident=ident, hostname=self.hostname, now=self.now()
            )
            self.queue.put(answer, text, [recipient])
            self.log.info(
                "out-of-office reply", id=envelope.id, reply=ident, account=account.key, to=str(recipient.address)
            )
        except (OSError, ValueError, sa.exc.SQLAlchemyError) as error:
            self.log.error("no out-of-office reply", id=envelope.id, account=account.key, error=str(error))
