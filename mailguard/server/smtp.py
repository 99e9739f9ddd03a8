"""SMTP, submission and LMTP over a real connection: pumps octets between the stream, the core and a transaction."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from mailguard.auth.accounts import Account
from mailguard.auth.authenticator import Authenticator
from mailguard.delivery.cure import cure
from mailguard.delivery.spool import Spool
from mailguard.model.reply import Reply
from mailguard.model.session import Role, Session
from mailguard.net.listener import Peer
from mailguard.net.listening import ListenerSettings
from mailguard.net.stream import HungUpError, Stream, StreamTimeoutError
from mailguard.net.tls import TlsContexts
from mailguard.observe.log import about
from mailguard.pipeline.engine import Engine
from mailguard.pipeline.inspection import Inspection
from mailguard.protocol.sasl import Challenge
from mailguard.protocol.smtp import command as cmd
from mailguard.protocol.smtp.event import (
    AuthEvent,
    CloseEvent,
    ContentEvent,
    HelloEvent,
    PieceEvent,
    ResetEvent,
    StartTlsEvent,
)
from mailguard.protocol.smtp.server import SmtpServer
from mailguard.protocol.wire import NEED_DATA
from mailguard.server.saslsignin import Granted, SaslSignIn
from mailguard.server.smtp_profile import Profiles
from mailguard.server.smtptransaction import NO_STORAGE, OK_SENDER, Desk, Transaction
from mailguard.server.xclient import introduced

_ROLES = {"smtp": Role.MX, "lmtp": Role.LMTP}
_HANDSHAKE = 60.0  # seconds for STARTTLS
_LAST_WORD = 5.0  # seconds for a client to take our 421


class SmtpService:
    """Serves connections of all three kinds; ``pause`` is how a refused password is held back."""

    def __init__(
        self,
        desk: Desk,
        *,
        engine: Engine,
        authenticator: Authenticator,
        tls: TlsContexts | None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.desk = desk
        self.engine = engine
        self.authenticator = authenticator
        self.tls = tls
        self.pause = pause
        self.profiles = Profiles(desk, tls=tls is not None)

    def handle(self, stream: Stream, peer: Peer, listener: ListenerSettings) -> None:
        """Serves one connection to its end. Raises OSError when it breaks."""
        _Connection(self, stream, peer, _ROLES.get(listener.kind, Role.SUBMISSION)).run()


class _Connection:
    def __init__(self, service: SmtpService, stream: Stream, peer: Peer, role: Role) -> None:
        self._service = service
        self._desk = service.desk
        self._stream = stream
        id, self._messages = peer.id or service.desk.new_id(), 0
        self._session = Session(id, peer.ip, peer.port, peer.local_port, role, tls=stream.tls)
        self._sign_in = self._make_sign_in(peer.ip) if role is Role.SUBMISSION else None
        secured, mechanisms = stream.tls is not None, self._mechanisms()
        self._core = SmtpServer(service.profiles.profile(role, peer.ip, secured=secured, mechanisms=mechanisms))
        self._inspection: Inspection | None = None
        self._account: Account | None = None
        self._transaction: Transaction | None = None
        self._spool: Spool | None = None
        self._ends = time.monotonic() + service.desk.settings.session_timeout
        self._data_ends = 0.0

    def _make_sign_in(self, peer_ip: str) -> SaslSignIn:
        service = self._service
        return SaslSignIn(
            service.authenticator,
            self._stream,
            protocol="smtp",
            peer_ip=peer_ip,
            tls=service.tls,
            pause=service.pause,
        )

    def _mechanisms(self) -> tuple[str, ...]:
        return self._sign_in.mechanisms() if self._sign_in is not None else ()

    # -- the loop ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Reads, answers, writes."""
        self._stream.timeout = self._desk.settings.timeout
        about(self._session.id)
        try:
            # Who may say XCLIENT is a stranger's voice: the stranger is looked at once he is known.
            if not self._core.profile.xclient and (refusal := self._look_at_client()):
                self._stream.write(refusal.encode())
                return
            if self._session.role is Role.MX and not self._service.engine.idle and self._stream.has_input():
                self._session = replace(self._session, early=True)
            self._core.greet()
            while self._answer_all():
                receiving = self._core.receiving
                self._set_deadline(receiving=receiving)
                self._stream.under_way = self._transaction is not None
                data = self._stream.read(much=receiving)
                if not data:
                    self._lost("the client closed the connection")
                    return
                self._core.receive_data(data)
        except StreamTimeoutError:
            self._time_out()
        except HungUpError:
            self._lost("the server is being stopped")
            text = f"{self._desk.hostname} is being stopped; try again"
            self._stream.write(Reply.of(421, "4.3.2", text).encode())
        except OSError as error:
            self._lost(str(error))
            raise
        finally:
            self._drop()
            about("")

    def _look_at_client(self) -> Reply | None:
        """Lets the pipeline see who it is; the reply that turns it away."""
        self._inspection = self._service.engine.connect(self._session)
        if self._inspection.ptr and not self._session.ptr:
            self._session = replace(self._session, ptr=self._inspection.ptr)
        return self._inspection.verdict.reply

    def _set_deadline(self, *, receiving: bool) -> None:
        ends = self._ends
        if receiving:
            self._data_ends = self._data_ends or time.monotonic() + self._desk.settings.data_timeout
            ends = min(ends, self._data_ends)
        else:
            self._data_ends = 0.0
        self._stream.deadline = ends

    def _time_out(self) -> None:
        now, settings = time.monotonic(), self._desk.settings
        if self._data_ends and now >= self._data_ends:
            text = f"the message took longer than {settings.data_timeout:.0f} seconds"
        elif now >= self._ends:
            text = f"the connection lasted longer than {settings.session_timeout:.0f} seconds"
        else:
            text = f"nothing came for {settings.timeout:.0f} seconds"
        if self._transaction is None:
            self._desk.log.info("a limit was reached", peer=self._session.peer_ip, reason=text)
        self._lost(text)
        self._stream.set_deadline(_LAST_WORD)
        self._stream.write(Reply.of(421, "4.4.2", f"{self._desk.hostname} {text}: closing").encode())

    def _lost(self, reason: str) -> None:
        if self._transaction is not None:
            where = "in the middle of a message" if self._core.receiving else "in a transaction"
            self._desk.log.info(f"connection lost {where}", id=self._transaction.envelope.id, reason=reason)

    def _drop(self) -> None:
        if self._transaction is not None:
            self._transaction.abort()
            self._transaction = None
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        about(self._session.id)

    def _answer_all(self) -> bool:
        core = self._core
        while (event := core.next_event()) is not NEED_DATA:
            match event:
                case HelloEvent(name, esmtp):
                    self._drop()
                    self._session = replace(self._session, helo=name, esmtp=esmtp)
                case cmd.Mail():
                    core.send(self._on_mail(event))
                case cmd.Rcpt():
                    assert self._transaction is not None  # or the core would have refused
                    core.send(self._transaction.recipient(event.recipient))
                case PieceEvent(piece):
                    self._spool = self._spool or Spool(self._desk.spool)
                    self._spool.write(piece)
                case ContentEvent():
                    self._on_content(event)
                case AuthEvent():
                    self._on_auth(event)
                case StartTlsEvent():
                    self._start_tls()
                case cmd.Xclient():
                    self._on_xclient(event)
                case ResetEvent():
                    self._drop()
                case CloseEvent():
                    self._flush()
                    return False
        self._flush()
        return True

    def _flush(self) -> None:
        if out := self._core.data_to_send():
            self._stream.write(out)
        for reply in self._core.limits_hit():
            self._desk.log.info("a limit was reached", peer=self._session.peer_ip, reason=str(reply))

    # -- what the client says ---------------------------------------------------------------------------------

    def _start_tls(self) -> None:
        self._flush()
        self._drop()
        assert self._service.tls is not None  # or STARTTLS was not on offer
        self._stream.set_deadline(_HANDSHAKE)
        info = self._stream.start_tls(self._service.tls.server_context())
        self._session = replace(self._session, tls=info, helo="", esmtp=False)
        self._core.secured(self._mechanisms())

    def _on_auth(self, event: AuthEvent) -> None:
        sign_in = self._sign_in
        assert sign_in is not None  # or no mechanism was on offer
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

    def _on_xclient(self, command: cmd.Xclient) -> None:
        found = introduced(self._session, command, self._service.authenticator.directory)
        if isinstance(found, Reply):
            self._core.send(found)
            return
        self._session, self._account = found
        if self._sign_in is not None:
            self._sign_in = self._make_sign_in(self._session.peer_ip)
        refusal = self._look_at_client()
        reply = refusal or Reply.of(220, "", f"{self._desk.hostname} ESMTP mailguard")
        self._core.send(reply, close=bool(refusal), authenticated=self._account is not None)

    def _on_mail(self, mail: cmd.Mail) -> Reply:
        self._inspection = self._inspection or self._service.engine.connect(self._session)
        if self._inspection.verdict.reply is not None:
            return self._inspection.verdict.reply
        # A message is called by its connection and its number there: one name to look for finds all of both.
        self._messages += 1
        ident = f"{self._session.id}-{self._messages}"
        made = Transaction.begin(self._desk, self._session, self._account, self._inspection, mail, ident)
        if isinstance(made, Reply):
            return made
        about(ident)
        self._transaction = made
        return OK_SENDER

    def _on_content(self, content: ContentEvent) -> None:
        transaction, spool = self._transaction, self._spool
        assert transaction is not None
        if content.flaw is not None:
            # Where line ends are doubtful, what follows may have been meant as part of the message.
            self._core.send(transaction.refuse(content.flaw), close=content.flaw.code == 550)
        elif spool is None:
            self._core.send_each(transaction.accept(content.raw))
        else:
            spool.write(content.raw)
            try:
                raw = spool.octets()
            except OSError as error:
                ident, log = transaction.envelope.id, self._desk.log
                log.error("a large message cannot be spooled", id=ident, error=str(error), cure=cure(error))
                self._core.send(transaction.refuse(NO_STORAGE))
            else:
                self._core.send_each(transaction.accept(raw))
        self._transaction = None
        self._drop()
