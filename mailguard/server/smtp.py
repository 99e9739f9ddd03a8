"""SMTP over a real connection: pumps octets, asks router and pipeline, delivers or queues, then answers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field

from mailguard.auth.accounts import Account
from mailguard.auth.authenticator import Authenticator
from mailguard.delivery.forward import LOOPS, Forwarder
from mailguard.delivery.local import LocalDelivery
from mailguard.delivery.queue import Queue
from mailguard.delivery.router import Route, Router
from mailguard.model.address import Address
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.event import Accepted, Event
from mailguard.model.message import Message
from mailguard.model.reply import Reply
from mailguard.model.session import Role, Session
from mailguard.model.trace import hops, received
from mailguard.net.listener import Peer
from mailguard.net.listening import ListenerSettings
from mailguard.net.stream import HungUpError, Stream, StreamTimeoutError
from mailguard.net.tls import TlsContexts
from mailguard.pipeline.engine import Engine
from mailguard.pipeline.inspection import MailInspection
from mailguard.pipeline.verdict import Action, Verdict
from mailguard.protocol.sasl import Challenge
from mailguard.protocol.smtp import command as cmd
from mailguard.protocol.smtp.event import (
    AuthEvent,
    CloseEvent,
    ContentEvent,
    HelloEvent,
    Profile,
    ResetEvent,
    StartTlsEvent,
)
from mailguard.protocol.smtp.server import SmtpServer
from mailguard.protocol.wire import NEED_DATA
from mailguard.server.saslsignin import Granted, SaslSignIn
from mailguard.state.quarantine import REASON

MAX_HOPS = 50  # RFC 5321 §6.3
OK_SENDER, OK_RCPT = Reply.of(250, "2.1.0", "sender ok"), Reply.of(250, "2.1.5", "recipient ok")
NO_STORAGE = Reply.of(452, "4.3.1", "the message cannot be stored now, try again later")


class SmtpSettings(BaseModel):
    """``[smtp]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size_limit: int = Field(default=52_428_800, ge=65_536, description="octets of the largest message accepted")
    recipients: int = Field(default=100, ge=100, description="recipients of one message (RFC 5321: at least 100)")
    timeout: float = Field(default=300.0, ge=1, description="seconds a client may be silent (RFC 5321: 300)")
    session_timeout: float = Field(default=3600.0, ge=60, description="seconds a connection may last in all")
    errors: int = Field(default=20, ge=1, description="refused commands before the connection is closed")


class SmtpService:
    """Serves SMTP and submission connections."""

    def __init__(
        self,
        settings: SmtpSettings,
        *,
        hostname: str,
        router: Router,
        engine: Engine,
        local: LocalDelivery,
        queue: Queue,
        forwarder: Forwarder,
        authenticator: Authenticator,
        tls: TlsContexts | None,
        emit: Callable[[Event], None],
        new_id: Callable[[], str],
        log: Any,
        now: Callable[[], float] = time.time,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self.hostname = hostname
        self.router = router
        self.engine = engine
        self.local = local
        self.queue = queue
        self.forwarder = forwarder
        self.authenticator = authenticator
        self.tls = tls
        self.emit = emit
        self.new_id = new_id
        self.log = log
        self.now = now
        self.pause = pause

    def handle(self, stream: Stream, peer: Peer, listener: ListenerSettings) -> None:
        """Serves one connection to its end. Raises OSError when it breaks."""
        stream.timeout = self.settings.timeout
        stream.set_deadline(self.settings.session_timeout)
        _Connection(self, stream, peer, listener).run()


class _Connection:
    def __init__(self, service: SmtpService, stream: Stream, peer: Peer, listener: ListenerSettings) -> None:
        self._service = service
        self._stream = stream
        self._role = Role.MX if listener.kind == "smtp" else Role.SUBMISSION
        self._session = Session(service.new_id(), peer.ip, peer.port, peer.local_port, self._role, tls=stream.tls)
        submission = self._role is Role.SUBMISSION
        self._sign_in = SaslSignIn(
            service.authenticator,
            stream,
            protocol="smtp",
            peer_ip=peer.ip,
            tls=service.tls,
            pause=service.pause,
        )
        self._core = SmtpServer(
            Profile(
                service.hostname,
                service.settings.size_limit,
                service.settings.recipients,
                starttls=stream.tls is None and service.tls is not None,
                mechanisms=self._sign_in.mechanisms() if submission else (),
                needs_auth=submission,
                secured=stream.tls is not None,
                errors_max=service.settings.errors,
            )
        )
        self._account: Account | None = None
        self._envelope: Envelope | None = None
        self._mail: MailInspection | None = None
        self._routes: dict[str, Route] = {}

    def run(self) -> None:
        """Reads, answers, writes."""
        self._inspection = self._service.engine.connect(self._session)
        refusal = self._inspection.verdict.reply
        if refusal is not None:
            self._stream.write(refusal.encode())
            return
        self._core.greet()
        try:
            while self._answer_all():
                self._stream.under_way = self._envelope is not None
                data = self._stream.read()
                if not data:
                    return
                self._core.receive_data(data)
        except StreamTimeoutError:
            self._stream.write(Reply.of(421, "4.4.2", f"{self._service.hostname} waited too long").encode())
        except HungUpError:
            self._stream.write(Reply.of(421, "4.3.2", f"{self._service.hostname} is being stopped; try again").encode())

    def _answer_all(self) -> bool:
        while (event := self._core.next_event()) is not NEED_DATA:
            match event:
                case HelloEvent(name, esmtp):
                    self._session = replace(self._session, helo=name, esmtp=esmtp)
                case cmd.Mail():
                    self._core.send(self._on_mail(event))
                case cmd.Rcpt():
                    self._core.send(self._on_rcpt(event.recipient))
                case ContentEvent():
                    self._on_content(event)
                case AuthEvent():
                    self._on_auth(event)
                case StartTlsEvent():
                    self._start_tls()
                case ResetEvent():
                    self._envelope = None
                case CloseEvent():
                    self._flush()
                    return False
        self._flush()
        return True

    def _flush(self) -> None:
        if out := self._core.data_to_send():
            self._stream.write(out)

    def _start_tls(self) -> None:
        self._flush()
        assert self._service.tls is not None  # or STARTTLS was not on offer
        info = self._stream.start_tls(self._service.tls.server_context())
        self._session = replace(self._session, tls=info, helo="", esmtp=False)
        self._core.secured(self._sign_in.mechanisms() if self._role is Role.SUBMISSION else ())

    # -- signing in -------------------------------------------------------------------------------------------

    def _on_auth(self, event: AuthEvent) -> None:
        sign_in = self._sign_in
        outcome = sign_in.begin(event.mechanism, event.response) if event.mechanism else sign_in.respond(event.response)
        match outcome:
            case Challenge(data):
                self._core.challenge(data)
            case Granted(account):
                self._account = account
                self._session = replace(self._session, user=account.key)
                self._core.send(Reply.of(235, "2.7.0", f"signed in as {account.address}"))
            case _ if outcome.unknown:
                self._core.send(Reply.of(504, "5.5.4", outcome.text))
            case _:
                code = (454, "4.7.0") if outcome.temporary else (535, "5.7.8")
                self._core.send(Reply.of(*code, outcome.text))

    # -- one transaction --------------------------------------------------------------------------------------

    def _on_mail(self, mail: cmd.Mail) -> Reply:
        if self._account is not None and mail.mail_from is not None and not self._account.may_send_as(mail.mail_from):
            return self._not_yours(self._account, str(mail.mail_from))
        envelope = Envelope(
            self._service.new_id(),
            mail.mail_from,
            size=mail.size,
            body_8bit=mail.body_8bit,
            smtputf8=mail.smtputf8,
            require_tls=mail.require_tls,
            ret=mail.ret,
            envid=mail.envid,
        )
        inspection = self._inspection.mail(self._session, envelope)
        if inspection.verdict.reply is not None:
            return inspection.verdict.reply
        self._envelope, self._mail, self._routes = envelope, inspection, {}
        return OK_SENDER

    @staticmethod
    def _not_yours(account: Account, wanted: str) -> Reply:
        cure = f'to allow it, put send_as = ["{wanted}"] into its [[account]] of accounts.toml'
        return Reply.of(553, "5.7.1", f"{account.address} may not send as {wanted}; {cure}")

    def _on_rcpt(self, recipient: Recipient) -> Reply:
        assert self._envelope is not None and self._mail is not None
        route = self._service.router.route(recipient.address, may_relay=self._session.authenticated)
        if isinstance(route, Reply):
            self._mail.refused(self._envelope, route, recipient.address)
            return route
        verdict = self._mail.recipient(self._envelope, recipient.address)
        if verdict.reply is not None:
            return verdict.reply
        self._routes[recipient.address.key] = route
        self._envelope = replace(self._envelope, recipients=(*self._envelope.recipients, recipient))
        return OK_RCPT

    def _on_content(self, content: ContentEvent) -> None:
        if content.flaw is not None:
            if self._mail is not None and self._envelope is not None:
                self._mail.refused(self._envelope, content.flaw)
            self._core.send(content.flaw, close=content.flaw.code == 550)
        else:
            self._core.send(self._accept(Message(content.raw)))
        self._envelope = self._mail = None

    def _accept(self, message: Message) -> Reply:
        envelope, mail, service = self._envelope, self._mail, self._service
        assert envelope is not None and mail is not None
        if hops(message) >= MAX_HOPS:
            reply = Reply.of(554, "5.4.6", f"the message has passed {MAX_HOPS} servers: a mail loop")
            mail.refused(envelope, reply)
            return reply
        if all(self._loops(message, recipient) for recipient in envelope.recipients):
            mail.refused(envelope, LOOPS)
            return LOOPS
        verdict = mail.message(envelope, message)
        if verdict.reply is not None:
            return verdict.reply
        arrived = message.prepend(received(self._session, envelope, service.hostname, service.now()))
        stamped = mail.stamp(envelope, arrived, verdict)  # our results stand above our Received (RFC 8601 §5)
        try:
            where = self._store(envelope, stamped, verdict)
        except (OSError, sa.exc.SQLAlchemyError) as error:
            service.log.error(
                "the message cannot be stored", id=envelope.id, error=str(error), cure="see disk and state"
            )
            mail.refused(envelope, NO_STORAGE)
            return NO_STORAGE
        mail.outcome(where)
        rcpts = tuple(str(r.address) for r in envelope.recipients)
        user, sender = self._session.user, envelope.reverse_path
        now, size, stored = service.now(), len(message), tuple(where.items())
        service.emit(Accepted(now, envelope.id, self._session.id, user, sender, rcpts, size, stored))
        return Reply.of(250, "2.0.0", f"taken as {envelope.id}")

    def _sends_on(self, recipient: Recipient) -> tuple[Address, ...]:
        """The outside addresses behind one of ours."""
        ours = self._service.router.is_local(recipient.address.domain)
        return self._routes[recipient.address.key].remote if ours else ()

    def _loops(self, message: Message, recipient: Recipient) -> bool:
        return bool(self._sends_on(recipient)) and self._service.forwarder.loops(message, recipient.address)

    def _store(self, envelope: Envelope, message: Message, verdict: Verdict) -> dict[str, str]:
        """Makes the message durable for every recipient; what cannot be delivered now is queued. Raises OSError,
        SQLAlchemyError where even that fails."""
        service, where = self._service, dict[str, str]()
        accounts: dict[str, dict[str, Account]] = {"INBOX": {}, "Junk": {}}
        queued: dict[str, Recipient] = {}
        held: list[Recipient] = []
        onward: list[Recipient] = []
        for recipient in envelope.recipients:
            key = recipient.address.key
            action, route = verdict.action_for(key), self._routes[key]
            if action is Action.QUARANTINE:
                held.append(recipient)
                where[key] = "quarantine"
            elif action is Action.DISCARD:
                where[key] = "discarded"
            else:
                box = "Junk" if action is Action.JUNK else "INBOX"
                accounts[box] |= {account.key: account for account in route.accounts}
                where[key] = ", ".join([f"{a.key}/{box}" for a in route.accounts] + ["queue"] * bool(route.remote))
                if not self._sends_on(recipient):
                    queued |= {address.key: replace(recipient, address=address) for address in route.remote}
                elif self._loops(message, recipient):
                    queued[key] = recipient  # the queue reports the loop to the sender
                elif box == "INBOX":
                    onward.append(recipient)
                elif route.accounts:
                    where[key] = where[key].replace("queue", "not sent on: junk")
                else:
                    held.append(recipient)  # nobody wants junk sent on, and nobody may lose it
                    where[key] = "quarantine"
        for box, owners in accounts.items():
            for account in service.local.deliver_to(envelope, message, list(owners.values()), box):
                queued[account.key] = Recipient(account.address)
        service.queue.put(envelope, message, held, hold=True, reason=REASON)
        service.queue.put(envelope, message, list(queued.values()))
        for recipient in onward:
            service.forwarder.send_on(envelope, message, recipient, self._sends_on(recipient))
        return where
