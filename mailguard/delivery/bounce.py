"""Delivery status notifications: what became of a message, for people and programs (RFC 3461-3464, RFC 6533)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import formatdate

from mailguard.delivery.bounce_advice import advice, headline
from mailguard.delivery.queue_entry import QueuedMessage, QueuedRecipient
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.model.reply import Reply

_XTEXT = re.compile(r"\+([0-9A-F]{2})")


@dataclass(frozen=True, slots=True)
class Fate:
    """What happened to one recipient: ``action`` is ``failed``, ``delayed``, ``delivered`` or ``relayed``.

    ``host`` answered with ``reply``; ``retry_until`` is the Unix time at which a delayed one is given up.
    """

    recipient: QueuedRecipient
    action: str
    reply: Reply
    host: str = ""
    retry_until: float = 0.0


def wanted(recipient: Recipient, action: str) -> bool:
    """Whether the sender asked to be told of this (RFC 3461 §4.1: by default of failures and delays)."""
    if not recipient.notify:
        return action in ("failed", "delayed")
    word = {"failed": "FAILURE", "delayed": "DELAY"}.get(action, "SUCCESS")
    return word in recipient.notify


@dataclass(frozen=True, slots=True)
class Reporter:
    """Writes notifications in the name of ``hostname``; the original is returned whole up to ``full_up_to`` octets."""

    hostname: str
    full_up_to: int = 50_000

    def report(
        self, ident: str, queued: QueuedMessage, original: Message, fates: Sequence[Fate], now: float
    ) -> tuple[Envelope, Message, Recipient]:
        """The notification to queue: its envelope (null reverse path, RFC 3464 §2), itself, its recipient.

        ``fates`` share one action. The message must have a sender: nothing is ever reported to ``<>``.
        """
        sender = queued.envelope.mail_from
        if sender is None:
            raise ValueError("a message from <> gets no notification")
        utf8 = sender.needs_utf8 or any(f.recipient.recipient.address.needs_utf8 for f in fates)
        parts = [
            _part("text/plain; charset=utf-8", self._words(queued, fates, now)),
            _part(
                "message/global-delivery-status" if utf8 else "message/delivery-status",
                self._status(queued, fates, now),
            ),
            self._returned(queued, original, fates[0].action, utf8),
        ]
        boundary = f"=_report_{ident}"
        head = self._head(ident, sender.__str__(), queued, fates[0].action, boundary, now)
        body = b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in parts)
        raw = head + b"\r\n" + body + b"--" + boundary.encode() + b"--\r\n"
        envelope = Envelope(id=ident, mail_from=None, body_8bit=True, smtputf8=sender.needs_utf8)
        return envelope, Message(raw), Recipient(sender)

    def _head(self, ident: str, to: str, queued: QueuedMessage, action: str, boundary: str, now: float) -> bytes:
        lines = [
            f"From: Mail Delivery System <MAILER-DAEMON@{self.hostname}>",
            f"To: {to}",
            f"Subject: {headline(action)[0]}",
            f"Date: {formatdate(now, localtime=True)}",
            f"Message-ID: <{ident}@{self.hostname}>",
            "Auto-Submitted: auto-replied",
            f"X-Mailguard-Queue-ID: {queued.id}",
            "MIME-Version: 1.0",
            f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"',
        ]
        return "".join(line + "\r\n" for line in lines).encode()

    def _words(self, queued: QueuedMessage, fates: Sequence[Fate], now: float) -> bytes:
        lines = [f"This is the mail server {self.hostname}.", "", headline(fates[0].action)[1], ""]
        for fate in fates:
            lines += [f"  {fate.recipient.recipient.address}"]
            if fate.action in ("failed", "delayed"):
                source = f"The server {fate.host} answered" if fate.host else "What happened"
                lines += [f"    {source}:", f"      {_clean(str(fate.reply))}"]
                lines += [f"    {advice(fate.reply)}"]
            if fate.retry_until:
                lines += [f"    We keep trying until {formatdate(fate.retry_until, localtime=True)}."]
            lines += [""]
        lines += [f"Your message arrived here at {formatdate(queued.created, localtime=True)}."]
        return "".join(line + "\r\n" for line in lines).encode()

    def _status(self, queued: QueuedMessage, fates: Sequence[Fate], now: float) -> bytes:
        head = [f"Reporting-MTA: dns; {self.hostname}"]
        if queued.envelope.envid:
            head.append(f"Original-Envelope-Id: {_from_xtext(queued.envelope.envid)}")
        head.append(f"Arrival-Date: {formatdate(queued.created, localtime=True)}")
        groups = ["".join(_clean(line) + "\r\n" for line in head)]
        groups += ["".join(_clean(line) + "\r\n" for line in _recipient_fields(fate, now)) for fate in fates]
        return "\r\n".join(groups).encode()

    def _returned(self, queued: QueuedMessage, original: Message, action: str, utf8: bool) -> bytes:
        full = action == "failed" and queued.envelope.ret != "HDRS" and not queued.envelope.require_tls
        if full and (queued.envelope.ret == "FULL" or queued.size <= self.full_up_to):
            return _part("message/global" if utf8 else "message/rfc822", bytes(original))
        # Whoever could not have the body before is not to get it in a report sent with less care (RFC 8689 §5).
        return _part("message/global-headers" if utf8 else "text/rfc822-headers", original.header)


def _recipient_fields(fate: Fate, now: float) -> list[str]:
    recipient = fate.recipient.recipient
    lines = []
    if recipient.orcpt:
        kind, _, address = recipient.orcpt.partition(";")
        lines.append(f"Original-Recipient: {kind};{_from_xtext(address)}")
    kind = "utf-8" if recipient.address.needs_utf8 else "rfc822"
    lines.append(f"Final-Recipient: {kind}; {recipient.address}")
    lines.append(f"Action: {fate.action}")
    lines.append(f"Status: {_status(fate)}")
    if fate.host:
        lines.append(f"Remote-MTA: dns; {fate.host.partition('[')[0]}")
    if fate.action in ("failed", "delayed") or fate.host:
        lines.append(f"Diagnostic-Code: smtp; {fate.reply}"[:900])
    lines.append(f"Last-Attempt-Date: {formatdate(now, localtime=True)}")
    if fate.retry_until:
        lines.append(f"Will-Retry-Until: {formatdate(fate.retry_until, localtime=True)}")
    return lines


def _status(fate: Fate) -> str:
    digit = {"failed": "5", "delayed": "4"}.get(fate.action, "2")
    status = fate.reply.status or f"{digit}.0.0"
    # A temporary answer that lasted too long has become a failure (RFC 3464 §2.3.4).
    return digit + status[1:]


def _part(media_type: str, content: bytes) -> bytes:
    transfer = b"" if content.isascii() else b"Content-Transfer-Encoding: 8bit\r\n"
    return b"Content-Type: " + media_type.encode() + b"\r\n" + transfer + b"\r\n" + content


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _from_xtext(text: str) -> str:
    return _XTEXT.sub(lambda m: chr(int(m[1], 16)), text)
