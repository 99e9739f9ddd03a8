"""Letters about forwards: to their targets, who must agree, and to the mailbox's owner, who may not have set them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mailguard.auth.accounts import Account
from mailguard.delivery.attempt import Sign
from mailguard.delivery.forwardconsent import Consents, TooManyLettersError
from mailguard.delivery.forwarding import Forward, ForwardError, Forwards
from mailguard.delivery.notice import letter
from mailguard.delivery.queue import Queue
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.trace import delivered_to


@dataclass(frozen=True)
class ForwardPost:
    """Sets forwards, and writes to everybody concerned. ``sign`` adds our DKIM signature for a domain."""

    forwards: Forwards
    consents: Consents
    queue: Queue
    hostname: str
    new_id: Callable[[], str]
    log: Any
    sign: Sign = lambda message, domain: message
    now: Callable[[], float] = time.time

    def set(self, account: Account, value: Forward, *, page: str, peer_ip: str) -> None:
        """Sets the forward; ``page`` is the URL to which a code is added. Raises ForwardError, and what Queue.put
        raises."""
        strangers = [str(t) for t in value.targets if self.forwards.needs_consent(t)]
        try:
            codes = self.consents.ask(account.key, strangers)
        except TooManyLettersError as error:
            raise ForwardError(str(error)) from None
        for target, code in codes.items():
            try:
                self._send(Address.parse(target), *_asks(account, target, self.hostname, page, code))
            except (OSError, sa.exc.SQLAlchemyError):
                self.consents.forget(account.key, target)
                raise
        if value != (self.forwards.get(account.key) or Forward()):
            asked = self.consents.of(account.key)
            waiting = [text for text in strangers if not asked[text].agreed_at]
            # Marked as if it had been here, so that it is not sent on itself but stays for its owner to see.
            mark = delivered_to(str(account.address))
            self._send(account.address, *_tells(account, value, waiting, peer_ip), mark=mark)
        self.forwards.set(account.key, value)
        targets = ", ".join(map(str, value.targets)) or "nobody"
        self.log.info("forwarding changed", account=account.key, to=targets, keep=value.keep, peer=peer_ip)

    def _send(self, to: Address, subject: str, lines: Sequence[str], *, mark: bytes = b"") -> None:
        ident = self.new_id()
        message = self.sign(letter(ident, self.hostname, str(to), subject, lines, self.now()), self.hostname)
        message = message.prepend(mark) if mark else message
        envelope = Envelope(id=ident, mail_from=None, body_8bit=True, smtputf8=to.needs_utf8)
        self.queue.put(envelope, message, [Recipient(to, frozenset({"NEVER"}))])


def _asks(account: Account, target: str, hostname: str, page: str, code: str) -> tuple[str, list[str]]:
    return f"May mail of {account.address} be sent on to you?", [
        f"Whoever has the mailbox {account.address} on {hostname} wants its mail sent on to this address, {target}.",
        "",
        "If you want that, open this page and say yes:",
        "",
        f"    {page}{code}",
        "",
        f"or tell them this code: {code}",
        "",
        "If you do not, do nothing: no mail is sent on. Later, the same page stops it.",
    ]


def _tells(account: Account, value: Forward, waiting: Sequence[str], peer_ip: str) -> tuple[str, list[str]]:
    if not value.targets:
        return "Your mail is not forwarded any more", [f"Forwarding of {account.address} was turned off on your page."]
    lines = [f"From now on the mail of {account.address} is sent on to:", ""]
    for target in map(str, value.targets):
        lines.append(f"    {target}" + (", as soon as its owner agrees" if target in waiting else ""))
    lines += ["", "A copy stays in this mailbox." if value.keep else "No copy stays in this mailbox.", ""]
    lines += [
        f"This was set on your account page, by somebody who signed in with your password from {peer_ip or 'here'}.",
        "If that was not you, turn it off there, change your password, and tell whoever looks after this server.",
    ]
    return "Your mail is being forwarded", lines
