"""Out-of-office replies: to people only, once a week to each, and never to a machine (RFC 3834, RFC 5230)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate

import sqlalchemy as sa

from mailguard.auth.accounts import Account
from mailguard.model.address import Address, AddressError
from mailguard.model.addresslist import read_addresses
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.state.database import Database
from mailguard.state.personal import vacation, vacation_sent

AGAIN = 7 * 86_400.0  # seconds until the same sender is told once more (RFC 5230 §4.1)
MAX_TEXT = 4_000  # characters
MAX_SUBJECT = 200
_FRESH = 3.0  # seconds until another worker's change is seen
# Lists, their managers, and what never reads an answer (RFC 3834 §2, RFC 5230 §4.6).
_ROBOTS = ("owner-", "mailer-daemon", "listserv", "majordomo", "noreply", "no-reply", "donotreply", "do-not-reply")
_ROBOT_ENDS = ("-request", "-owner", "-bounces", "-bounce", "-noreply", "-daemon")
_LIST_FIELDS = (
    "list-id", "list-help", "list-subscribe", "list-unsubscribe", "list-post", "list-owner", "list-archive",
    "feedback-id", "x-mailing-list", "x-loop",
)  # fmt: skip
_SUPPRESS = {"all", "oof", "autoreply"}  # Microsoft's X-Auto-Response-Suppress


@dataclass(frozen=True, slots=True)
class Vacation:
    """What an account's owner has set. Times are Unix times, 0 where there is no bound; ``subject`` ``""``: that of
    the message with ``Auto:`` in front."""

    enabled: bool = False
    starts_at: float = 0.0
    ends_at: float = 0.0
    subject: str = ""
    text: str = ""

    def active(self, now: float) -> bool:
        """Whether replies go out now."""
        return self.enabled and self.starts_at <= now and (not self.ends_at or now < self.ends_at)


class Vacations:
    """The replies of all accounts, in the state database. Safe for threads."""

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now
        self._lock = threading.Lock()
        self._enabled: dict[str, Vacation] = {}
        self._read_at = float("-inf")

    def get(self, account: str) -> Vacation | None:
        """What the account has set, whether it is on or off."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(vacation).where(vacation.c.account == account)).first()
        return _vacation(row) if row else None

    def set(self, account: str, value: Vacation) -> None:
        """Sets it; whoever was told the old text will be told the new one."""
        row: dict[str, object] = {"enabled": value.enabled, "starts_at": value.starts_at, "ends_at": value.ends_at}
        row |= {"subject": value.subject, "text": value.text}
        with self._database.write(durable=True) as connection:
            connection.execute(sa.delete(vacation_sent).where(vacation_sent.c.account == account))
            mine = vacation.c.account == account
            if not connection.execute(sa.update(vacation).where(mine).values(row)).rowcount:
                connection.execute(sa.insert(vacation).values(account=account, **row))
        self._read_at = float("-inf")

    def active(self, account: str) -> Vacation | None:
        """The reply to send for this account now. Costs nothing while nobody is away."""
        now = self._now()
        with self._lock:
            if now - self._read_at >= _FRESH or now < self._read_at:
                query = sa.select(vacation).where(vacation.c.enabled)
                with self._database.read() as connection:
                    self._enabled = {row.account: _vacation(row) for row in connection.execute(query)}
                self._read_at = now
            found = self._enabled.get(account)
        return found if found is not None and found.active(now) else None

    def first_this_week(self, account: str, sender: str) -> bool:
        """Notes that this sender is answered; False if it was within the last seven days."""
        now = self._now()
        mine = sa.and_(vacation_sent.c.account == account, vacation_sent.c.sender == sender[:320])
        with self._database.write() as connection:
            told = connection.execute(sa.select(vacation_sent.c.at).where(mine)).scalar()
            if told is not None and now - told < AGAIN:
                return False
            connection.execute(sa.delete(vacation_sent).where(sa.or_(mine, vacation_sent.c.at <= now - AGAIN)))
            connection.execute(sa.insert(vacation_sent).values(account=account, sender=sender[:320], at=now))
        return True


def _vacation(row: sa.Row[tuple[object, ...]]) -> Vacation:
    return Vacation(row.enabled, row.starts_at, row.ends_at, row.subject, row.text)


def why_not(envelope: Envelope, message: Message, account: Account) -> str:
    """Why this message gets no automatic reply; ``""`` if it may have one."""
    sender = envelope.mail_from
    if sender is None:
        return "it has no sender to answer"
    local = sender.local.lower()
    if local.startswith(_ROBOTS) or local.endswith(_ROBOT_ENDS):
        return f"{sender} is a machine"
    if _is_mine(account, sender):
        return "it is from the account itself"
    if message.get("Auto-Submitted").partition(";")[0].strip().lower() not in ("", "no"):
        return "it was sent by a machine (Auto-Submitted)"
    if found := next((name for name in _LIST_FIELDS if message.get_all(name)), ""):
        return f"it came over a list ({found})"
    if message.get("Precedence").lower() in ("bulk", "junk", "list", "auto_reply"):
        return "it is bulk mail (Precedence)"
    suppressed = {word.strip().lower() for word in message.get("X-Auto-Response-Suppress").split(",")}
    if suppressed & _SUPPRESS:
        return "its sender wants no automatic replies (X-Auto-Response-Suppress)"
    if addressed_as(message, account) is None:
        return "it names none of the account's addresses in To or Cc"
    return ""


def addressed_as(message: Message, account: Account) -> Address | None:
    """The first address in To, Cc and their Resent- forms that is the account's own (RFC 5230 §4.5)."""
    names = ("To", "Cc", "Resent-To", "Resent-Cc")
    texts = [field.value for name in names for field in message.get_all(name)]
    for _, text in read_addresses(texts):
        try:
            address = Address.parse(text)
        except AddressError:
            continue
        if _is_mine(account, address):
            return address
    return None


def author(message: Message, account: Account) -> Address:
    """In whose name the reply goes out."""
    return addressed_as(message, account) or account.address


def _is_mine(account: Account, address: Address) -> bool:
    plain = Address(address.local.partition("+")[0], address.domain)
    return address.key in account.send_as or plain.key in account.send_as or plain.key == account.key


def reply(
    value: Vacation, envelope: Envelope, message: Message, account: Account, *, ident: str, hostname: str, now: float
) -> tuple[Envelope, Message, Recipient]:
    """The reply to queue; only for messages for which ``why_not`` found nothing.

    Its reverse path is null, so that nothing ever answers it (RFC 3834 §3.3), and it goes to the reverse path of
    the message, not to From (§4).
    """
    from email.headerregistry import Address as NamedAddress  # a megabyte of every worker, for a letter in a while
    from email.message import EmailMessage
    from email.policy import SMTP

    sender = envelope.mail_from
    assert sender is not None
    own = author(message, account)
    made = EmailMessage(policy=SMTP)
    made["From"] = NamedAddress(account.name, addr_spec=str(own)) if str(own).isascii() else str(own)
    made["To"] = str(sender)
    original = _line(message.get_all("Subject")[0].decoded if message.get_all("Subject") else "")
    made["Subject"] = value.subject or f"Auto: {original or 'your message'}"[:250]
    made["Date"] = formatdate(now, localtime=True)
    made["Message-ID"] = f"<{ident}@{hostname}>"
    answered = _line(message.get("Message-ID"))
    if answered.startswith("<") and answered.isascii() and len(answered) < 500:
        made["In-Reply-To"] = answered
        earlier = [word for word in message.get("References").split() if word.startswith("<") and word.isascii()]
        made["References"] = " ".join([*(word for word in earlier[-10:] if len(word) < 200), answered])
    made["Auto-Submitted"] = "auto-replied (vacation)"
    made["X-Auto-Response-Suppress"] = "All"
    made.set_content(value.text + "\n")
    utf8 = sender.needs_utf8 or own.needs_utf8
    raw = made.as_bytes(policy=SMTP.clone(utf8=True) if utf8 else SMTP)
    answer = Envelope(id=ident, mail_from=None, smtputf8=utf8)
    return answer, Message(raw), Recipient(sender, notify=frozenset({"NEVER"}))


def _line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text).strip()
