"""The envelope of a message: who sends it, to whom, with which parameters (RFC 5321 §2.3.1, RFC 3461)."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailguard.model.address import Address


@dataclass(frozen=True, slots=True)
class Recipient:
    """One forward path.

    ``address`` is as given in RCPT TO; ``notify`` holds ``SUCCESS FAILURE DELAY`` or only ``NEVER``, empty for
    the default (RFC 3461 §4.1); ``orcpt`` is ``type;xtext`` as received, or ``""``. ``mailbox`` is where a verdict
    wants it, such as ``Junk``, ``""`` for the INBOX; it is ours alone and never sent on.
    """

    address: Address
    notify: frozenset[str] = frozenset()
    orcpt: str = ""
    mailbox: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The transaction so far. ``mail_from`` is None for the null reverse path ``<>``.

    ``id`` names the message in every log line, in its Received field, its Maildir file name and its verdict
    record. ``size`` is the declared SIZE in octets, 0 if none. ``ret`` is ``FULL``, ``HDRS`` or ``""``.
    ``hold_until`` is a Unix time for FUTURERELEASE (RFC 4865), 0 for at once.
    """

    id: str
    mail_from: Address | None
    recipients: tuple[Recipient, ...] = field(default=())
    size: int = 0
    body_8bit: bool = False
    smtputf8: bool = False
    require_tls: bool = False
    ret: str = ""
    envid: str = ""
    hold_until: int = 0

    @property
    def reverse_path(self) -> str:
        """The sender's address, ``""`` for the null one."""
        return str(self.mail_from) if self.mail_from else ""
