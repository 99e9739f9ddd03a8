"""Delivery into our own Maildirs: one file written and fsynced, the other recipients get links to it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from mailguard.auth.accounts import Account
from mailguard.delivery.cure import cure
from mailguard.delivery.forward import LOOPS, Forwarder
from mailguard.delivery.personal import Personal
from mailguard.delivery.queue import Queue
from mailguard.delivery.router import Route, Router
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.model.reply import Reply
from mailguard.model.trace import delivered_to, loops_at, return_path
from mailguard.store.account import AccountStore, MailboxNameError

DELIVERED = Reply.of(250, "2.1.5", "delivered")
LATER = Reply.of(451, "4.3.0", "the mailbox cannot take the message now")
DISK_FULL = Reply.of(452, "4.3.1", "the server's disk is full")


class LocalDelivery:
    """Delivers for SMTP and for the queue. ``open_store`` gives an account's mail; ``forwarder`` takes what an
    address of ours sends on to the outside, ``queue`` what some of several mailboxes cannot take now;
    ``personal`` does what a mailbox's owner wants done beside a delivery."""

    def __init__(
        self,
        router: Router,
        open_store: Callable[[Account], AccountStore],
        log: Any,
        forwarder: Forwarder | None = None,
        personal: Personal | None = None,
        queue: Queue | None = None,
    ) -> None:
        self._router = router
        self._forwarder = forwarder
        self._personal = personal
        self._queue = queue
        self._open = open_store
        self._log = log

    def is_local(self, domain: str) -> bool:
        """Whether the domain is ours."""
        return self._router.is_local(domain)

    def used_for(self, account: Account, mailbox: str) -> str:
        """The mailbox that the account uses for one of a usual name such as Junk; that name where nobody can tell."""
        try:
            return self._open(account).used_for(mailbox)
        except (OSError, MailboxNameError):
            return mailbox

    def deliver_to(
        self, envelope: Envelope, message: Message, accounts: Sequence[Account], mailbox: str = "INBOX"
    ) -> dict[str, Reply]:
        """Delivers to each account, ``mailbox`` Junk into whichever the account uses for that; durable when it returns.
        Returns why some could not take it, by account key; never raises for what is wrong with one of them."""
        personal = self._personal if mailbox == "INBOX" else None
        if personal is not None:
            accounts = [a for a in accounts if not personal.moves_on(envelope, message, a)]
        if not accounts:
            return {}
        top = [return_path(envelope)]
        if len(accounts) == 1:
            # With several, the one file they share would tell each of the others.
            top.append(delivered_to(str(accounts[0].address)))
        chunks = message.without(message.get_all("Return-Path")).prepend(*top).chunks()
        failed: dict[str, Reply] = {}
        first = ""
        for account in accounts:
            try:
                store = self._open(account)
                where = store.used_for(mailbox)
                first = self._one(store, chunks, first, where, envelope.id)
            except (OSError, MailboxNameError) as error:
                self._log.error(
                    "delivery failed", id=envelope.id, account=account.key, error=str(error), cure=cure(error)
                )
                full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
                failed[account.key] = DISK_FULL if full else LATER
            else:
                self._log.info("delivered", id=envelope.id, to=account.key, where=where)
                if personal is not None:
                    personal.delivered(envelope, message, account)
        return failed

    def _one(
        self,
        store: AccountStore,
        chunks: tuple[bytes, memoryview],
        first: str,
        mailbox: str,
        ident: str,
    ) -> str:
        """Returns the path of the file that the next account may link to."""
        if first:
            try:
                store.deliver_link(first, mailbox, ident=ident)
            except OSError:  # another file system, or moved by its reader already: write it once more
                store.deliver(chunks, mailbox, ident=ident, crlf=True)
            return first
        return store.deliver(chunks, mailbox, ident=ident, crlf=True)

    def deliver(self, envelope: Envelope, message: Message, recipients: Sequence[Recipient]) -> list[Reply]:
        """What the queue asks: one reply for each recipient of ours."""
        return [self._deliver_one(envelope, message, recipient) for recipient in recipients]

    def _deliver_one(self, envelope: Envelope, message: Message, recipient: Recipient) -> Reply:
        directory, address = self._router.directory, recipient.address
        account = directory.accounts.get(address.key)
        # An alias that stands in front of the account has had its turn where its marker says so.
        passed = not directory.is_alias(address) or loops_at(message, address.key)
        if account is not None and not account.disabled and passed:
            mailbox = recipient.mailbox or "INBOX"
            return self.deliver_to(envelope, message, [account], mailbox).get(account.key, DELIVERED)
        route = self._router.route(address, may_relay=False)
        return route if isinstance(route, Reply) else self._by(route, envelope, message, recipient)

    def _by(self, route: Route, envelope: Envelope, message: Message, recipient: Recipient) -> Reply:
        # Nobody wants junk sent on; where the accounts have gone since, it still must not get lost.
        remote = () if recipient.mailbox and route.accounts else route.remote
        if self._forwarder is not None and remote:
            if self._forwarder.loops(message, recipient.address):
                return LOOPS
            try:
                self._forwarder.send_on(envelope, message, recipient, remote)
            except (OSError, sa.exc.SQLAlchemyError) as error:
                self._log.error(
                    "not sent on", id=envelope.id, to=str(recipient.address), error=str(error), cure=cure(error)
                )
                return LATER
        failed = self.deliver_to(envelope, message, route.accounts, recipient.mailbox or "INBOX")
        if not failed:
            return DELIVERED
        if len(failed) == len(route.accounts) and not remote:
            return next(iter(failed.values()))
        # Those who have it must not get it again with the next attempt: the others wait on their own.
        left = [account for account in route.accounts if account.key in failed]
        try:
            self.put_off(envelope, message, left, recipient)
        except (OSError, sa.exc.SQLAlchemyError) as error:
            self._log.error("cannot be queued", id=envelope.id, error=str(error), cure=cure(error))
            return LATER
        return DELIVERED

    def put_off(self, envelope: Envelope, message: Message, accounts: Sequence[Account], recipient: Recipient) -> None:
        """Lets accounts that cannot take the message now wait in the queue, each as a recipient of its own. Raises
        what ``Queue.put`` raises."""
        if self._queue is None:
            raise OSError("there is no queue to wait in")
        plain = [a for a in accounts if not self._router.directory.is_alias(a.address)]
        self._queue.put(envelope, message, [replace(recipient, address=a.address) for a in plain])
        for account in accounts:
            if account not in plain:  # marked, so that the alias in front of it is passed by
                marked = message.prepend(delivered_to(str(account.address)))
                self._queue.put(envelope, marked, [replace(recipient, address=account.address)])
