"""One mail transaction: who may send it, who gets it, what the pipeline says, and the moment it becomes ours."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from mmap import mmap
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mailguard.auth.accounts import Account
from mailguard.delivery import submission
from mailguard.delivery.alert import held_mail
from mailguard.delivery.allowance import Allowance, Excess
from mailguard.delivery.cure import cure
from mailguard.delivery.forward import LOOPS
from mailguard.delivery.intake import Intake, Taken
from mailguard.delivery.local import LocalDelivery
from mailguard.delivery.router import Route, Router
from mailguard.delivery.spool import has_room, spooled
from mailguard.delivery.submission_settings import SubmissionSettings
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.event import Accepted, Event
from mailguard.model.message import Message
from mailguard.model.reply import Reply
from mailguard.model.session import Role, Session
from mailguard.model.trace import hops, loops_at, received
from mailguard.pipeline.inspection import Inspection, MailInspection
from mailguard.pipeline.verdict import Verdict
from mailguard.protocol.smtp import command as cmd
from mailguard.server.smtp_settings import SmtpSettings

OK_SENDER, OK_RCPT = Reply.of(250, "2.1.0", "sender ok"), Reply.of(250, "2.1.5", "recipient ok")
NO_STORAGE = Reply.of(452, "4.3.1", "the message cannot be stored now, try again later")


@dataclass(frozen=True, slots=True)
class Desk:
    """What every transaction needs. ``sign`` adds our DKIM signature for a domain, ``spool`` is a folder for large
    messages."""

    settings: SmtpSettings
    submission: SubmissionSettings
    hostname: str
    router: Router
    intake: Intake
    local: LocalDelivery
    allowance: Allowance
    sign: Callable[[Message, str], Message]
    spool: Path
    emit: Callable[[Event], None]
    new_id: Callable[[], str]
    log: Any
    now: Callable[[], float] = time.time


class Transaction:
    """From MAIL to the reply to the message."""

    def __init__(
        self, desk: Desk, session: Session, account: Account | None, envelope: Envelope, mail: MailInspection
    ) -> None:
        self._desk = desk
        self._session = session
        self._account = account
        self._mail = mail
        self._routes: dict[str, Route] = {}
        self.envelope = envelope

    @classmethod
    def begin(
        cls, desk: Desk, session: Session, account: Account | None, inspection: Inspection, mail: cmd.Mail, ident: str
    ) -> Transaction | Reply:
        """The transaction that MAIL opens, ``ident`` being its message's id; or why it must not."""
        sender = mail.mail_from
        if account is not None and sender is not None and not desk.router.directory.may_send_as(account, sender):
            return submission.not_yours(account, sender)
        if mail.size and not has_room(desk.spool.parent, mail.size):  # RFC 1870 §6.1: before it has travelled
            cause = cure(OSError(errno.ENOSPC, ""))
            desk.log.error("no room for a message that was announced", id=ident, size=mail.size, cure=cause)
            return NO_STORAGE
        envelope = Envelope(
            ident,
            sender,
            size=mail.size,
            body_8bit=mail.body_8bit,
            smtputf8=mail.smtputf8,
            require_tls=mail.require_tls,
            ret=mail.ret,
            envid=mail.envid,
            hold_until=mail.hold_until or (int(desk.now()) + mail.hold_for if mail.hold_for else 0),
        )
        found = inspection.mail(session, envelope)
        return found.verdict.reply or cls(desk, session, account, envelope, found)

    def recipient(self, recipient: Recipient) -> Reply:
        """RCPT: the reply; a recipient that is accepted joins the envelope."""
        envelope, address = self.envelope, recipient.address
        route = self._desk.router.route(address, may_relay=self._session.authenticated, size=envelope.size)
        if isinstance(route, Reply):
            self._mail.refused(envelope, route, address)
            return route
        verdict = self._mail.recipient(envelope, address)
        if verdict.reply is not None and address.local.casefold() != "postmaster":  # RFC 5321 §4.5.1
            return verdict.reply
        self._routes[address.key] = route
        self.envelope = replace(envelope, recipients=(*envelope.recipients, recipient))
        return OK_RCPT

    def abort(self) -> None:
        """RSET, QUIT or a lost connection."""
        self._mail.abort()

    def refuse(self, reply: Reply) -> Reply:
        """The message as such is refused, for instance for its line ends."""
        self._mail.refused(self.envelope, reply)
        return reply

    def accept(self, raw: bytes | mmap) -> list[Reply]:
        """The message has arrived. One reply; for LMTP, one for each recipient."""
        message = Message(raw)
        try:
            refused = self._refused(message)
            if refused is not None:
                return self._each(self.refuse(refused))
            if self._account is not None:
                message = self._completed(message, self._account)
            verdict = self._mail.message(self.envelope, message)
            if verdict.reply is not None:
                return self._each(verdict.reply)
            taken = self._take(message, verdict)
        except (OSError, sa.exc.SQLAlchemyError) as error:
            log, ident = self._desk.log, self.envelope.id
            log.error("the message cannot be stored", id=ident, error=str(error), cure=cure(error))
            return self._each(self.refuse(NO_STORAGE))
        self._mail.outcome(taken.where)
        self._tell_accepted(len(message), taken)
        good = Reply.of(250, "2.0.0", f"taken as {self.envelope.id}")
        if self._session.role is not Role.LMTP:
            return [good]
        return [taken.failed.get(r.address.key, good) for r in self.envelope.recipients]

    def _each(self, reply: Reply) -> list[Reply]:
        return [reply] * (len(self.envelope.recipients) if self._session.role is Role.LMTP else 1)

    def _refused(self, message: Message) -> Reply | None:
        most, longest = self._desk.settings.hops, self._desk.settings.header_limit
        if message.body_start > longest:  # all of it is taken apart in memory
            return Reply.of(552, "5.3.4", f"the header section has more than the {longest} octets allowed here")
        if hops(message) >= most:
            return Reply.of(554, "5.4.6", f"the message has passed {most} servers: a mail loop")
        if all(route.forwarded and loops_at(message, key) for key, route in self._routes.items()):
            return LOOPS
        if self._account is not None:
            return submission.refused_author(self._desk.router.directory, self._account, message)
        return None

    def _completed(self, message: Message, account: Account) -> Message:
        desk = self._desk
        if submission.has_long_lines(message.raw):
            pieces = submission.fold(message.raw)
            large = isinstance(message.raw, mmap)
            message = Message(spooled(desk.spool, pieces) if large else b"".join(pieces))
        return submission.completed(message, account, hostname=desk.hostname, ident=self.envelope.id, now=desk.now())

    def _take(self, message: Message, verdict: Verdict) -> Taken:
        desk, session, envelope = self._desk, self._session, self.envelope
        hidden = desk.submission.hide_client
        trace = received(session, envelope, desk.hostname, desk.now(), hide_client=hidden)
        # Our results stand above our Received (RFC 8601 §5), our signature above all.
        message = self._mail.stamp(envelope, message.prepend(trace), verdict)
        excess = None
        if self._account is not None:
            message = desk.sign(message, self._signing_domain(message, self._account))
            excess = desk.allowance.count(self._account.key, [r.address.key for r in envelope.recipients])
        hold = excess.reason if excess is not None else ""
        lmtp = session.role is Role.LMTP
        taken = desk.intake.take(envelope, message, self._routes, verdict, hold=hold, may_fail=lmtp)
        if excess is not None and self._account is not None:
            self._warn(excess, self._account)
        return taken

    @staticmethod
    def _signing_domain(message: Message, account: Account) -> str:
        found = submission.author(message)
        return found[0].domain if not isinstance(found, Reply) and found else account.address.domain

    def _warn(self, excess: Excess, account: Account) -> None:
        """Tells the log and, once a day, the postmaster that mail is held."""
        desk = self._desk
        desk.log.warning(
            "mail is held: this user sends more than it may",
            id=self.envelope.id,
            account=account.key,
            reason=excess.reason,
            cure=f"ask the user, then `mailguard queue release` or `drop --from {account.address}`",
        )
        if not excess.alert:
            return
        to = Address("postmaster", account.address.domain)
        route = desk.router.route(to, may_relay=False)
        if isinstance(route, Route):
            ident, now = f"{self.envelope.id}-held", desk.now()
            alert = held_mail(
                ident, hostname=desk.hostname, to=to, account=account.address, reason=excess.reason, now=now
            )
            desk.local.deliver_to(Envelope(ident, None, (Recipient(to),)), alert, route.accounts)

    def _tell_accepted(self, size: int, taken: Taken) -> None:
        s, e = self._session, self.envelope
        rcpts = tuple(str(r.address) for r in e.recipients if r.address.key not in taken.failed)
        stored = tuple(taken.where.items())
        self._desk.emit(Accepted(self._desk.now(), e.id, s.id, s.user, e.reverse_path, rcpts, size, stored))
