"""Delivery into our own Maildirs: one file written and fsynced, the other recipients get links to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mailguard.auth.accounts import Account
from mailguard.delivery.forward import LOOPS, Forwarder
from mailguard.delivery.personal import Personal
from mailguard.delivery.router import Route, Router
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.model.reply import Reply
from mailguard.model.trace import delivered_to, return_path
from mailguard.store.account import AccountStore, MailboxNameError
from mailguard.store.content import Described, read_at_delivery

DELIVERED = Reply.of(250, "2.1.5", "delivered")
LATER = Reply.of(451, "4.3.0", "the mailbox cannot take the message now")


class LocalDelivery:
    """Delivers for SMTP and for the queue. ``open_store`` gives an account's mail; ``forwarder`` takes what an
    address of ours sends on to the outside; ``personal`` does what a mailbox's owner wants done beside a delivery."""

    def __init__(
        self,
        router: Router,
        open_store: Callable[[Account], AccountStore],
        log: Any,
        forwarder: Forwarder | None = None,
        personal: Personal | None = None,
    ) -> None:
        self._router = router
        self._forwarder = forwarder
        self._open = open_store
        self._log = log
        self._personal = personal

    def is_local(self, domain: str) -> bool:
        """Whether the domain is ours."""
        return self._router.is_local(domain)

    def deliver_to(
        self, envelope: Envelope, message: Message, accounts: Sequence[Account], mailbox: str = "INBOX"
    ) -> list[Account]:
        """Delivers to each account; durable when it returns. Returns the accounts that could not take it; never
        raises for what is wrong with one of them."""
        personal = self._personal if mailbox == "INBOX" else None
        if personal is not None:
            accounts = [a for a in accounts if not personal.moves_on(envelope, message, a)]
        if not accounts:
            return []
        top = [return_path(envelope)]
        if len(accounts) == 1:
            # With several, the one file they share would tell each of the others.
            top.append(delivered_to(str(accounts[0].address)))
        chunks = message.without(message.get_all("Return-Path")).prepend(*top).chunks()
        described = read_at_delivery(chunks)
        failed: list[Account] = []
        first: Path | None = None
        for account in accounts:
            try:
                store = self._open(account)
                first = self._one(store, chunks, first, mailbox, described)
            except (OSError, MailboxNameError) as error:
                self._log.error("delivery failed", id=envelope.id, account=account.key, error=str(error))
                failed.append(account)
            else:
                self._log.info("delivered", id=envelope.id, to=account.key, where=mailbox)
                if personal is not None:
                    personal.delivered(envelope, message, account)
        return failed

    def _one(
        self,
        store: AccountStore,
        chunks: tuple[bytes, memoryview],
        first: Path | None,
        mailbox: str,
        described: Described | None,
    ) -> Path:
        if first is not None:
            try:
                store.deliver_link(first, mailbox, described=described)
            except OSError:  # another file system, or moved by its reader already: write it once more
                store.deliver(chunks, mailbox, described=described)
            return first
        return store.deliver(chunks, mailbox, described=described)

    def deliver(self, envelope: Envelope, message: Message, recipients: Sequence[Recipient]) -> list[Reply]:
        """What the queue asks: one reply for each recipient of ours."""
        replies = []
        for recipient in recipients:
            route = self._router.route(recipient.address, may_relay=False)
            replies.append(route if isinstance(route, Reply) else self._by(route, envelope, message, recipient))
        return replies

    def _by(self, route: Route, envelope: Envelope, message: Message, recipient: Recipient) -> Reply:
        if self._forwarder is not None and route.remote:
            if self._forwarder.loops(message, recipient.address):
                return LOOPS
            try:
                self._forwarder.send_on(envelope, message, recipient, route.remote)
            except (OSError, sa.exc.SQLAlchemyError) as error:
                self._log.error("not sent on", id=envelope.id, to=str(recipient.address), error=str(error))
                return LATER
        return LATER if self.deliver_to(envelope, message, route.accounts) else DELIVERED
