"""One IMAP connection: pumps octets between stream and session, hands commands over, needs no thread while idle."""

from __future__ import annotations

import sqlite3
import ssl

from mailguard.auth.accounts import Account
from mailguard.net.stream import HungUpError, Stream, StreamTimeoutError
from mailguard.protocol import sasl
from mailguard.protocol.imap.arguments import Id, Login
from mailguard.protocol.imap.command import State
from mailguard.protocol.imap.deflate import Deflate
from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.session import Event as SessionEvent
from mailguard.protocol.imap.session import IdleDone, ImapSession, Offer, Request, SaslBegin, SaslResponse
from mailguard.protocol.wire import NEED_DATA
from mailguard.server.imap_client import NO_REQUEST, Client, Done
from mailguard.server.imap_handlers import HANDLERS, KEEPS_NUMBERS
from mailguard.server.imap_surroundings import Surroundings
from mailguard.server.imap_waiting import Waiting
from mailguard.server.saslsignin import Granted, Outcome, SaslSignIn
from mailguard.store.index import IndexTornError
from mailguard.store.lock import LockTimeoutError
from mailguard.store.quota import OverQuotaError
from mailguard.store.snapshot import NoSuchMailboxError


class Connection(Waiting):
    """Lives on one thread at a time: the listener's, none while it is parked, then one of the parking's."""

    def __init__(self, around: Surroundings, stream: Stream, peer_ip: str) -> None:
        self._around = around
        self._stream = stream  # the offer needs to know its TLS
        self._peer_ip = peer_ip
        self._sign_in: SaslSignIn | None = SaslSignIn(
            around.authenticator,
            stream,
            protocol="imap",
            peer_ip=peer_ip,
            tls=around.tls,
            cleartext=around.settings.cleartext,
            pause=around.pause,
        )
        super().__init__(stream, ImapSession(self._offer()), around)
        stream.set_deadline(around.settings.signin_timeout)

    def _offer(self, account: Account | None = None) -> Offer:
        settings, secure = self._around.settings, self._stream.tls is not None
        assert self._sign_in is not None  # offers are made before sign-in and at its end
        return Offer(
            self._sign_in.mechanisms(),
            cleartext=secure or settings.cleartext,
            starttls=not secure and self._around.tls is not None,
            capabilities=self._around.capabilities,
            append_limit=settings.append_limit,
            hidden=account.hide_capabilities if account else frozenset(),
        )

    def run(self) -> bool:
        """Reads, answers, writes, until the client has gone (False) or waits without a thread (True)."""
        session, stream = self._session, self._stream
        try:
            while True:
                while (event := session.next_event()) is not NEED_DATA:
                    self._answer(event)
                self.flush()
                if session.state is State.LOGOUT:
                    return self._over()
                if self._deflate is not None and (data := self._deflate.more()):
                    session.receive_data(data)
                    continue
                parking = self._around.parking if self._client is not None else None
                if parking is not None and not self._lingers():
                    self._park(parking)
                    return True
                stream.under_way = session.buffered
                data = self._read(readable=parking is not None)
                if not data:
                    return self._over()
                session.receive_data(data)
        except (StreamTimeoutError, HungUpError) as error:
            silent = isinstance(error, TimeoutError)
            session.close("you were silent for too long" if silent else "the server is being stopped")
            stream.set_deadline(1.0)
            self.flush()
            return self._over()
        except BaseException:
            self._over()
            raise

    def _answer(self, event: SessionEvent) -> None:
        match event:
            case Request(name="LOGIN", arguments=Login(user, password)):
                self._login(user, password)
            case SaslBegin(mechanism, response):
                assert self._sign_in is not None
                self._signed_in(self._sign_in.begin(mechanism, response))
            case SaslResponse(data):
                assert self._sign_in is not None
                self._signed_in(self._sign_in.respond(data))
            case IdleDone():
                assert self._client is not None
                if not self._client.notifies:
                    self._client.stop_listening()
                self._client.sync()
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
            case "COMPRESS":
                self._compress(request.arguments)
            case "ID":
                self._id(request.arguments)
            case "NOOP" if self._client is None:
                session.ok()
            case _:
                self._handle(request)
                self._forget()

    def _handle(self, request: Request) -> None:
        assert self._client is not None  # or the session would not have let it pass
        client, session = self._client, self._session
        client.request = request
        try:
            done = self._carry_out(client, request)
        except CommandError as error:
            client.sync(expunges=request.name not in KEEPS_NUMBERS)
            session.fail(error)
        except OverQuotaError as error:
            session.no(str(error), "OVERQUOTA")
        except (ConnectionError, StreamTimeoutError, ssl.SSLError):
            raise
        except NoSuchMailboxError as error:
            self._failed(client, error)
            session.no("the mailbox is gone", "NONEXISTENT")
            if client.lost:
                session.close("the mailbox is gone")
        except (OSError, sqlite3.Error, IndexTornError, LockTimeoutError) as error:
            self._failed(client, error)
            session.no("this cannot be done just now", "UNAVAILABLE")
        else:
            if session.state is State.LOGOUT:
                return
            if request.name == "IDLE":
                client.listen(self.ring)
                client.sync()
                session.idling()
            else:
                session.ok(done.text, done.code)

    def _forget(self) -> None:
        """A message that was appended is not kept in memory until the next command."""
        if self._client is not None:
            self._client.request = NO_REQUEST

    def _failed(self, client: Client, error: Exception) -> None:
        facts = {"command": client.request.name, "account": client.account.key, "error": str(error)}
        self._around.log.error("IMAP command failed", **facts)

    def _carry_out(self, client: Client, request: Request) -> Done:
        progress = self._around.progress
        progress.begin(request.tag, self.tell_progress)
        try:
            done = HANDLERS[request.name](client, request.arguments) or Done()
            if client.notifies:
                client.listen(self.ring)  # before the last look, so that nothing is missed
            client.sync(expunges=request.name not in KEEPS_NUMBERS)
        finally:
            progress.end()
        return done

    def _id(self, arguments: object) -> None:
        assert isinstance(arguments, Id)
        fields = {f"id_{k[:30]}": v[:100] for k, v in arguments.fields if v.isprintable() and k.isidentifier()}
        self._around.log.info("client", peer=self._peer_ip, **fields)
        self._session.send(b'* ID ("name" "mailguard")\r\n')
        self._session.ok()

    def _compress(self, arguments: object) -> None:
        if arguments != "DEFLATE":
            self._session.bad("DEFLATE is the only compression")
        elif self._deflate is not None:
            self._session.no("compression is on already", "COMPRESSIONACTIVE")
        else:
            self._session.ok("compression begins now")
            self.flush()
            self._deflate = Deflate(self._session.take_input())
            self._session.receive_data(self._deflate.more())

    def _start_tls(self) -> None:
        if not self._session.offer.starttls or self._around.tls is None:
            self._session.bad("STARTTLS is not offered here")
            return
        self._session.ok("begin TLS now")
        self.flush()
        self._stream.start_tls(self._around.tls.server_context())
        self._session.tls_started(self._offer())

    def _login(self, user: str, password: str) -> None:
        assert self._sign_in is not None
        if self._session.offer.cleartext:
            self._signed_in(self._sign_in.password(user, password))
        else:
            self._session.no("passwords need TLS: use STARTTLS or port 993", "PRIVACYREQUIRED")

    def _signed_in(self, outcome: Outcome) -> None:
        match outcome:
            case sasl.Challenge(data):
                self._session.challenge(data)
            case Granted(account):
                self._open(account)
            case _:
                self._session.no(outcome.text, "UNAVAILABLE" if outcome.temporary else "AUTHENTICATIONFAILED")

    def _open(self, account: Account) -> None:
        around = self._around
        try:
            store = around.open_store(account)
        except OSError as error:
            around.log.error("mail cannot be opened", account=account.key, error=str(error))
            self._session.no("your mail cannot be opened just now", "UNAVAILABLE")
            return
        self._client = Client(self._session, account, store, self.flush, around.emit, around.log, around.now)
        self._stream.set_deadline(None)
        self._stream.timeout = around.settings.timeout
        self._session.signed_in(self._offer(account))
        self._sign_in = None
