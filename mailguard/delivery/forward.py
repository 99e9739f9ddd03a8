"""Mail that an address of ours sends on to the outside: a reverse path of ours, a loop marker, no body touched."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import replace

from mailguard.delivery.queue import Queue
from mailguard.delivery.srs import Srs, SrsError
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.model.reply import Reply
from mailguard.model.trace import delivered_to, loops_at
from mailguard.state.database import Database
from mailguard.state.kv import KeyValueStore

LOOPS = Reply.of(554, "5.4.6", "the message has been sent on from here before: a mail loop")
_NOT_XTEXT = re.compile(r"[^!-*,-<>-~]")
_KEY_OCTETS = 32


def srs_secret(database: Database) -> bytes:
    """The key of this installation's rewritten addresses, made when it is first asked for."""
    fresh = secrets.token_hex(_KEY_OCTETS)
    return bytes.fromhex(KeyValueStore(database, "mailguard:srs").put_if_absent("key", fresh))


class Rewriter:
    """SRS for each of our domains: what goes out through one of them comes back to it."""

    def __init__(self, secret: bytes, domains: Iterable[str]) -> None:
        self._srs = {domain: Srs(secret, domain) for domain in domains}

    def forward(self, sender: Address | None, domain: str) -> Address | None:
        """The reverse path of mail that an address at ``domain`` sends on; our own senders and ``<>`` stay."""
        srs = self._srs.get(domain) or next(iter(self._srs.values()), None)
        return sender if sender is None or sender.domain in self._srs or srs is None else srs.forward(sender)

    def reverse(self, address: Address) -> Address | None:
        """Whom mail for a rewritten address is for; None if it is none of ours, is forged or has expired."""
        srs = self._srs.get(address.domain)
        if srs is None or not srs.is_ours(address):
            return None
        try:
            return srs.reverse(address)
        except SrsError:
            return None


class Forwarder:
    """Queues what our aliases send on. ``rewriter`` None leaves the reverse path as it is."""

    def __init__(self, queue: Queue, rewriter: Rewriter | None) -> None:
        self._queue = queue
        self._rewriter = rewriter

    def loops(self, message: Message, address: Address) -> bool:
        """Whether this address has sent the message on before: our marker is in it already."""
        return loops_at(message, address.key)

    def send_on(self, envelope: Envelope, message: Message, recipient: Recipient, targets: Sequence[Address]) -> None:
        """Takes the message over for the outside addresses behind ``recipient``; durable when it returns.

        Raises what ``Queue.put`` raises.
        """
        address = recipient.address
        if self._rewriter is not None:
            envelope = replace(envelope, mail_from=self._rewriter.forward(envelope.mail_from, address.domain))
        notify = recipient.notify
        if len(targets) > 1 and "SUCCESS" in notify:
            # It has been delivered to the alias; of each of the many behind it nobody asked (RFC 3461 §5.2.7.3).
            notify = notify - {"SUCCESS"} or frozenset({"NEVER"})
        onward = [Recipient(target, notify, recipient.orcpt or _orcpt(address)) for target in targets]
        self._queue.put(envelope, message.prepend(delivered_to(str(address))), onward)


def _orcpt(address: Address) -> str:
    text = str(address)
    if not text.isascii():
        return f"utf-8;{text}"
    return "rfc822;" + _NOT_XTEXT.sub(lambda match: f"+{ord(match[0]):02X}", text)
