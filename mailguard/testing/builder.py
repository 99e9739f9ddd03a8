"""Sessions, envelopes and messages for tests, in one line each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.model.session import Session


def make_session(peer_ip: str = "192.0.2.1", **fields: Any) -> Session:
    """An MX session from ``peer_ip`` which said ``EHLO mail.example.net``; ``fields`` are those of Session."""
    known: dict[str, Any] = {"id": "S-test", "peer_port": 40_000, "local_port": 25, "helo": "mail.example.net"}
    return Session(peer_ip=peer_ip, **{**known, "esmtp": True, **fields})


def make_envelope(
    mail_from: str | Address | None = "alice@example.net",
    rcpt_to: str | Iterable[str] = ("bob@example.org",),
    **fields: Any,
) -> Envelope:
    """An envelope; ``mail_from`` of None or ``""`` is the null reverse path."""
    sender = Address.parse(mail_from) if isinstance(mail_from, str) and mail_from else mail_from or None
    assert not isinstance(sender, str)
    rcpts = (rcpt_to,) if isinstance(rcpt_to, str) else tuple(rcpt_to)
    recipients = tuple(Recipient(Address.parse(rcpt)) for rcpt in rcpts)
    return Envelope(mail_from=sender, recipients=recipients, **{"id": "M-test", **fields})


def make_message(
    body: str | bytes = "Hello\n",
    *,
    raw: str | bytes | None = None,
    headers: Iterable[tuple[str, str]] = (),
    sender: str = "Alice <alice@example.net>",
    to: str = "bob@example.org",
    subject: str = "Hello",
) -> Message:
    """A message with CRLF line ends. ``raw`` is all of it, as text or octets with any line ends; else it is made
    of the usual fields, ``headers`` after them, and ``body``."""
    if raw is None:
        usual = (
            ("From", sender),
            ("To", to),
            ("Subject", subject),
            ("Date", "Tue, 14 Nov 2023 22:13:20 +0000"),
            ("Message-ID", "<test@example.net>"),
        )
        head = "".join(f"{name}: {value}\n" for name, value in (*usual, *headers))
        raw = head.encode("utf-8", "surrogateescape") + b"\n" + _octets(body)
    return Message(_octets(raw).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


def _octets(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
