"""IMAP over a real connection: pumps octets between stream and session, signs in, hands commands to their handlers."""

from __future__ import annotations

import sqlite3
import ssl
import time
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from mailguard.auth.accounts import Account
from mailguard.auth.authenticator import Authenticator, AuthError
from mailguard.model.event import Event
from mailguard.net.listener import Peer
from mailguard.net.listening import ListenerSettings
from mailguard.net.stream import Stream, StreamTimeoutError
from mailguard.net.tls import TlsContexts
from mailguard.protocol import sasl
from mailguard.protocol.imap.command import Id, Login, State
from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.session import Event as SessionEvent
from mailguard.protocol.imap.session import IdleDone, ImapSession, Offer, Request, SaslBegin, SaslResponse
from mailguard.protocol.wire import NEED_DATA
from mailguard.server.imap_client import Client, Done
from mailguard.server.imap_handlers import CAPABILITIES, HANDLERS, KEEPS_NUMBERS
from mailguard.store.account import AccountStore
from mailguard.store.lock import LockTimeoutError

_LOOK = 1.0  # seconds between two looks at a mailbox in IDLE


class ImapSettings(BaseModel):
    """``[imap]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout: float = Field(
        default=1800.0, ge=1800, le=86_400, description="seconds a signed-in session may idle (RFC 9051: at least 1800)"
    )
    signin_timeout: float = Field(default=60.0, gt=0, le=600, description="seconds a client may take to sign in")
    cleartext: bool = Field(
        default=False, description="accept passwords on a connection without TLS; for tests and trusted wires only"
    )
    append_limit: int = Field(
        default=52_428_800, ge=65_536, description="octets of the largest message a client may upload"
    )


class ImapServer:
    """Serves IMAP connections. ``open_store`` gives an account's mail, ``tls`` is None where TLS is not set up,
    ``pause`` is how a refusal is held back."""

    def __init__(
        self,
        settings: ImapSettings,
        authenticator: Authenticator,
        open_store: Callable[[Account], AccountStore],
        tls: TlsContexts | None,
        log: Any,
        *,
        emit: Callable[[Event], None] = lambda _: None,
        pause: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.authenticator = authenticator
        self.open_store = open_store
        self.tls = tls
        self.log = log
        self.emit = emit
        self.pause = pause
        self.now = now

    def handle(self, stream: Stream, peer: Peer, _listener: ListenerSettings) -> None:
        """Serves one connection, in TLS already where its listener is for that. Raises OSError."""
        _Connection(self, stream, peer.ip).run()

    def offer(self, stream: Stream, account: Account | None = None) -> Offer:
        """What this connection may do now."""
        secure = stream.tls is not None
        allowed = secure or self.settings.cleartext
        return Offer(
            sasl.mechanisms(tls=allowed, binding=self.binding(stream) is not None),
            cleartext=allowed,
            starttls=not secure and self.tls is not None,
            capabilities=CAPABILITIES,
            append_limit=self.settings.append_limit,
            hidden=account.hide_capabilities if account else frozenset(),
        )

    def binding(self, stream: Stream) -> tuple[str, bytes] | None:
        """The channel binding of the connection's TLS."""
        if stream.tls is None or self.tls is None:
            return None
        return sasl.channel_binding(self.tls.certificate_for(stream.tls.sni).der)


class _Connection:
    def __init__(self, server: ImapServer, stream: Stream, peer_ip: str) -> None:
        self._server = server
        self._stream = stream
        self._peer_ip = peer_ip
        self._session = ImapSession(server.offer(stream))
        self._exchange: sasl.Exchange | None = None
        self._client: Client | None = None

    def run(self) -> None:
        """Reads, answers, writes, until either side has had enough."""
        session, stream = self._session, self._stream
        stream.set_deadline(self._server.settings.signin_timeout)
        try:
            while True:
                while (event := session.next_event()) is not NEED_DATA:
                    self._answer(event)
                self._flush()
                if session.state is State.LOGOUT:
                    return
                data = self._read()
                if not data:
                    return
                session.receive_data(data)
        except StreamTimeoutError:
            session.close("you were silent for too long")
            self._flush()

    def _read(self) -> bytes:
        if not self._session.idle:
            return self._stream.read()
        return self._read_idle()

    def _read_idle(self) -> bytes:
        assert self._client is not None
        until = time.monotonic() + self._server.settings.timeout
        while True:
            self._stream.timeout = _LOOK
            try:
                self._stream.wait_readable()
            except StreamTimeoutError:
                if time.monotonic() > until:
                    raise
                self._client.sync()
                self._flush()
                continue
            finally:
                self._stream.timeout = self._server.settings.timeout
            return self._stream.read()

    def _flush(self) -> None:
        if out := self._session.take_output():
            self._stream.write(out)

    def _answer(self, event: SessionEvent) -> None:
        match event:
            case Request(name="LOGIN", arguments=Login(user, password)):
                self._login(user, password)
            case SaslBegin(mechanism, response):
                self._sasl_begin(mechanism, response)
            case SaslResponse(data):
                self._sasl_step(data)
            case IdleDone():
                self._session.ok("idle is over")
            case Request():
                self._request(event)

    def _request(self, request: Request) -> None:
        session = self._session
        match request.name:
            case "CAPABILITY":
                session.send(b"* CAPABILITY %b\r\n" % session.capability())
                session.ok()
            case "LOGOUT":
                session.send(b"* BYE until next time\r\n")
                session.ok()
                session.state = State.LOGOUT
            case "STARTTLS":
                self._start_tls()
            case "ID":
                self._id(request.arguments)
            case "NOOP" if self._client is None:
                session.ok()
            case _:
                self._handle(request)

    def _handle(self, request: Request) -> None:
        assert self._client is not None  # or the session would not have let it pass
        client, session = self._client, self._session
        client.request = request
        try:
            done = HANDLERS[request.name](client, request.arguments) or Done()
            if request.name == "IDLE":
                client.sync()
                session.idling()
                return
            client.sync(expunges=request.name not in KEEPS_NUMBERS)
        except CommandError as error:
            client.sync(expunges=request.name not in KEEPS_NUMBERS)
            session.fail(error)
        except (ConnectionError, StreamTimeoutError, ssl.SSLError):
            raise
        except (OSError, sqlite3.Error, LockTimeoutError) as error:
            account = client.account.key
            self._server.log.error("IMAP command failed", command=request.name, account=account, error=str(error))
            session.no("this cannot be done just now", "UNAVAILABLE")
        else:
            session.ok(done.text, done.code)

    def _id(self, arguments: object) -> None:
        assert isinstance(arguments, Id)
        fields = {name[:30]: value[:100] for name, value in arguments.fields if value.isprintable()}
        self._server.log.info("client", peer=self._peer_ip, **{f"id_{k}": v for k, v in fields.items() if k.isalnum()})
        self._session.send(b'* ID ("name" "mailguard")\r\n')
        self._session.ok()

    def _start_tls(self) -> None:
        if self._session.offer.starttls is False or self._server.tls is None:
            self._session.bad("STARTTLS is not offered here")
            return
        self._session.ok("begin TLS now")
        self._flush()
        self._stream.start_tls(self._server.tls.server_context())
        self._session.tls_started(self._server.offer(self._stream))

    def _login(self, user: str, password: str) -> None:
        if not self._session.offer.cleartext:
            self._session.no("passwords need TLS: use STARTTLS or port 993", "PRIVACYREQUIRED")
            return
        self._check_password(user, password)

    def _sasl_begin(self, mechanism: str, response: bytes | None) -> None:
        if mechanism not in self._session.offer.mechanisms:
            self._session.no("that mechanism is not offered here")
            return
        keys = self._server.authenticator.scram_credentials
        self._exchange = sasl.begin(mechanism, scram_keys=keys, binding=self._server.binding(self._stream))
        self._sasl_step(response)

    def _sasl_step(self, response: bytes | None) -> None:
        assert self._exchange is not None  # begun before any response is asked for
        try:
            step = self._exchange.step(response)
        except sasl.SaslError as error:
            if error.wrong_proof:
                user = error.user
                self._sign_in(lambda: self._scram_result(user, ok=False))
            else:
                self._session.no(error.text, "AUTHENTICATIONFAILED")
            return
        except AuthError as error:
            self._refuse(error)
            return
        match step:
            case sasl.Challenge(data):
                self._session.challenge(data)
            case sasl.PasswordCheck(user, password):
                self._check_password(user, password)
            case sasl.Proven(user):
                self._sign_in(lambda: self._scram_result(user, ok=True))

    def _scram_result(self, user: str, *, ok: bool) -> Account:
        return self._server.authenticator.scram_result(user, ok, protocol="imap", peer_ip=self._peer_ip)

    def _check_password(self, user: str, password: str) -> None:
        authenticator = self._server.authenticator
        self._sign_in(lambda: authenticator.password(user, password, protocol="imap", peer_ip=self._peer_ip))

    def _sign_in(self, attempt: Callable[[], Account]) -> None:
        try:
            account = attempt()
        except AuthError as error:
            self._refuse(error)
            return
        try:
            store = self._server.open_store(account)
        except OSError as error:
            self._server.log.error("mail cannot be opened", account=account.key, error=str(error))
            self._session.no("your mail cannot be opened just now", "UNAVAILABLE")
            return
        server = self._server
        self._client = Client(self._session, account, store, self._flush, server.emit, server.log, server.now)
        self._stream.set_deadline(None)
        self._stream.timeout = server.settings.timeout
        self._session.signed_in(server.offer(self._stream, account))

    def _refuse(self, error: AuthError) -> None:
        if error.delay:
            self._server.pause(error.delay)
        self._session.no(error.reason, "UNAVAILABLE" if error.temporary else "AUTHENTICATIONFAILED")
