"""What happened to a message or a connection, told after the fact to logs, metrics, records and plugins."""

from __future__ import annotations

from dataclasses import dataclass

from mailguard.model.reply import Reply


@dataclass(frozen=True, slots=True)
class Event:
    """Common to all: ``at`` is a Unix time, ``id`` the message's id (or the connection's where none exists)."""

    at: float
    id: str


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """A connection, a sender, a recipient or a message was refused (``stage``: client, sender, recipient, message)."""

    stage: str
    session_id: str
    peer_ip: str
    mail_from: str
    rcpt_to: str
    reply: Reply


@dataclass(frozen=True, slots=True)
class Accepted(Event):
    """A message got its 250: it is durable now. ``stored`` says for each recipient of ours where its copies went:
    ``ann@office.example/INBOX``, ``queue``, ``quarantine``, several with commas."""

    session_id: str
    user: str
    mail_from: str
    recipients: tuple[str, ...]
    size: int
    stored: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Delivered(Event):
    """One recipient has the message: ``where`` is ``account/Mailbox`` or ``host[ip]:port``."""

    recipient: str
    where: str
    reply: Reply | None = None


@dataclass(frozen=True, slots=True)
class Deferred(Event):
    """One recipient must wait: ``next_at`` is the Unix time of the next attempt."""

    recipient: str
    reply: Reply
    next_at: float


@dataclass(frozen=True, slots=True)
class Bounced(Event):
    """One recipient cannot be reached; ``dsn_id`` is the id of the report sent, ``""`` if none was due."""

    recipient: str
    reply: Reply
    dsn_id: str = ""


@dataclass(frozen=True, slots=True)
class Held(Event):
    """A message waits for a decision: in quarantine or on hold in the queue."""

    reason: str


_JUNK, _TRASH = "\\Junk", "\\Trash"
_USUAL = {
    **dict.fromkeys(("junk", "spam"), _JUNK),
    **dict.fromkeys(("trash", "deleted", "deleted items", "deleted messages", "papierkorb"), _TRASH),
}


def _use(mailbox: str, special: str) -> str:
    """Which of the two a mailbox is for, if any."""
    uses = special.split()
    if uses:
        return next((use for use in uses if use in (_JUNK, _TRASH)), "")
    return _USUAL.get(mailbox.lower().replace("/", ".").removeprefix("inbox."), "")


@dataclass(frozen=True, slots=True)
class Moved(Event):
    """A user moved a message between mailboxes; ``path`` is its file now, so that a plugin can read it.

    ``source`` is ``Quarantine`` where the postmaster released it (to ``INBOX``) or called it spam (``Junk``). The
    mailboxes' special uses (RFC 6154) are told where they have any; without one a mailbox is what its name says.
    """

    account: str
    source: str
    target: str
    path: str
    source_use: str = ""
    target_use: str = ""

    @property
    def says(self) -> str:
        """What the move says of the message: ``spam`` into Junk, ``ham`` out of it or released, else ``""``."""
        source, target = _use(self.source, self.source_use), _use(self.target, self.target_use)
        if target == _JUNK:
            return "" if source == _JUNK else "spam"
        return "ham" if (source == _JUNK or self.source == "Quarantine") and target != _TRASH else ""

    @property
    def filed(self) -> bool:
        """Whether the message went from the INBOX to where people keep what they want."""
        return self.source.lower() == "inbox" and _use(self.target, self.target_use) not in (_JUNK, _TRASH)


@dataclass(frozen=True, slots=True)
class Flagged(Event):
    """A user changed flags; ``added`` and ``removed`` are IMAP flags or keywords, ``path`` the message's file."""

    account: str
    mailbox: str
    path: str
    added: tuple[str, ...]
    removed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SignedIn(Event):
    """A sign-in succeeded or failed (``ok``) over ``protocol``; ``reason`` says why not. ``app_password`` is the
    name of the one that was used."""

    account: str
    protocol: str
    peer_ip: str
    ok: bool
    reason: str = ""
    app_password: str = ""


@dataclass(frozen=True, slots=True)
class PluginFault(Event):
    """A plugin raised or missed its deadline; ``switched_off`` once it has done so too often in a row."""

    plugin: str
    error: str
    switched_off: bool
