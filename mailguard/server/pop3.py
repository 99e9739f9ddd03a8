"""POP3 over a real connection: pumps octets between stream and session, signs in, opens the maildrop."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mailguard.auth.accounts import Account
from mailguard.auth.authenticator import Authenticator
from mailguard.net.listener import Peer
from mailguard.net.listening import ListenerSettings
from mailguard.net.stream import HungUpError, Stream, StreamTimeoutError
from mailguard.net.tls import TlsContexts
from mailguard.protocol.pop3.downgrade import downgraded
from mailguard.protocol.pop3.event import (
    Event,
    Offer,
    Password,
    Quit,
    Retrieve,
    SaslBegin,
    SaslResponse,
    StartTls,
    State,
)
from mailguard.protocol.pop3.maildrop import Entry, unique_id
from mailguard.protocol.pop3.server import Pop3Session
from mailguard.protocol.sasl import Challenge
from mailguard.protocol.wire import NEED_DATA
from mailguard.server.pop3_settings import Pop3Settings
from mailguard.server.saslsignin import Granted, Outcome, SaslSignIn
from mailguard.store.account import AccountStore
from mailguard.store.index import IndexTornError
from mailguard.store.mailbox import Mailbox, with_crlf
from mailguard.store.snapshot import ExpungedError, NoSuchMailboxError

LOCK_NAME = "pop3.lock"
_MAIL_ERRORS = (OSError, sqlite3.Error, IndexTornError, NoSuchMailboxError)  # what the store may say
FLUSH_AT = 262_144  # octets of output gathered from pipelined commands before they are sent


class MaildropLockedError(Exception):
    """Another POP3 session has the maildrop."""


class Pop3Server:
    """Serves POP3 connections. ``open_store`` gives an account's mail, ``tls`` is None where TLS is not set up,
    ``pause`` is how a refusal is held back."""

    def __init__(
        self,
        settings: Pop3Settings,
        authenticator: Authenticator,
        open_store: Callable[[Account], AccountStore],
        tls: TlsContexts | None,
        log: Any,
        *,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings
        self.authenticator = authenticator
        self.open_store = open_store
        self.tls = tls
        self.log = log
        self.pause = pause

    def handle(self, stream: Stream, peer: Peer, _listener: ListenerSettings) -> None:
        """Serves one connection, in TLS already where its listener is for that. A network error ends it (OSError)
        and deletes nothing."""
        connection = _Connection(self, stream, peer.ip)
        try:
            connection.run()
        finally:
            connection.release()


class _Connection:
    def __init__(self, server: Pop3Server, stream: Stream, peer_ip: str) -> None:
        self._server = server
        self._stream = stream
        self._sign_in = SaslSignIn(
            server.authenticator,
            stream,
            protocol="pop3",
            peer_ip=peer_ip,
            tls=server.tls,
            cleartext=server.settings.cleartext,
            pause=server.pause,
        )
        self._session = Pop3Session(self._offer())
        self._mailbox: Mailbox | None = None
        self._files: dict[int, str] = {}
        self._release: Callable[[], None] = lambda: None

    def _offer(self) -> Offer:
        secure = self._stream.tls is not None
        return Offer(
            tuple(name for name in self._sign_in.mechanisms() if name != "LOGIN"),
            cleartext=secure or self._server.settings.cleartext,
            stls=not secure and self._server.tls is not None,
        )

    def release(self) -> None:
        """Gives the maildrop back."""
        self._release()

    def run(self) -> None:
        """Reads, answers, writes, until either side has had enough."""
        session, stream = self._session, self._stream
        stream.set_deadline(self._server.settings.signin_timeout)
        try:
            while True:
                self._answer_all()
                self._flush()
                if session.state is State.CLOSED:
                    return
                data = stream.read(much=False)
                if not data:
                    return
                session.receive_data(data)
        except (StreamTimeoutError, HungUpError) as error:
            session.close(
                "[SYS/TEMP] " + ("timed out" if isinstance(error, TimeoutError) else "the server is being stopped")
            )
            stream.write(session.take_output())

    def _flush(self) -> None:
        out = self._session.take_output()
        if out:
            self._stream.write(out)

    def _answer_all(self) -> None:
        gathered = 0
        while (event := self._session.next_event()) is not NEED_DATA:
            self._answer(event)
            if isinstance(event, Retrieve):
                gathered += event.entry.size
                if gathered > FLUSH_AT:
                    self._flush()
                    gathered = 0

    def _answer(self, event: Event) -> None:
        match event:
            case Retrieve():
                self._retrieve(event)
            case Password(user, password):
                self._signed_in(self._sign_in.password(user, password))
            case SaslBegin(mechanism, response):
                self._signed_in(self._sign_in.begin(mechanism, response))
            case SaslResponse(response):
                self._signed_in(self._sign_in.respond(response))
            case StartTls():
                self._flush()
                assert self._server.tls is not None  # or STLS was not on offer
                self._stream.start_tls(self._server.tls.server_context())
                self._session.tls_started(self._offer())
            case Quit(deleted):
                self._quit(deleted)

    def _signed_in(self, outcome: Outcome) -> None:
        match outcome:
            case Challenge(data):
                self._session.challenge(data)
            case Granted(account):
                self._enter(account)
            case _:
                self._session.refused(
                    outcome.text,
                    "" if outcome.unknown or outcome.malformed else "SYS/TEMP" if outcome.temporary else "AUTH",
                )

    def _enter(self, account: Account) -> None:
        try:
            self._open(account)
        except MaildropLockedError:
            self._session.refused("another POP3 session has this maildrop", "IN-USE")
        except _MAIL_ERRORS as error:
            self._server.log.error("maildrop cannot be opened", account=account.key, error=str(error))
            self._session.refused("the maildrop cannot be opened now", "SYS/TEMP")

    def _open(self, account: Account) -> None:
        lock = locked(account.maildir)
        try:
            mailbox = self._server.open_store(account).mailbox("INBOX")
            entries = _entries(mailbox)
            files = mailbox.files()
        except BaseException:
            lock()
            raise
        self._release, self._mailbox, self._files = lock, mailbox, files
        self._session.opened(entries)
        self._stream.set_deadline(None)
        self._stream.timeout = self._server.settings.timeout

    def _retrieve(self, event: Retrieve) -> None:
        assert self._mailbox is not None  # or the session were not in TRANSACTION
        try:
            raw = self._read_message(self._mailbox, event.entry.uid)
        except ExpungedError:
            self._session.failed("the message was removed by another program meanwhile")
            return
        except _MAIL_ERRORS as error:
            self._server.log.error("a message cannot be read", uid=event.entry.uid, error=str(error))
            self._session.failed("the message cannot be read now", "SYS/TEMP")
            return
        self._session.message(event, raw if self._session.utf8 else downgraded(raw))

    def _read_message(self, mailbox: Mailbox, uid: int) -> bytes:
        # The place known from the start, without a look at the index: a third of the time.
        with contextlib.suppress(FileNotFoundError, KeyError), io.FileIO(self._files[uid]) as file:
            return with_crlf(file.read())
        return mailbox.raw(uid)

    def _quit(self, deleted: list[int]) -> None:
        ok = True
        if deleted and self._mailbox is not None:
            try:
                self._mailbox.remove(deleted)
            except _MAIL_ERRORS as error:
                self._server.log.error("deletions failed at QUIT", error=str(error))
                ok = False
        self._session.closed(ok=ok)


def _entries(mailbox: Mailbox) -> list[Entry]:
    uid_validity = mailbox.status().uid_validity
    rows: Iterable[tuple[Any, ...]] = mailbox.rows(None, ("uid", "size", "uidl"))
    return [Entry(uid, size, uidl or unique_id(uid, uid_validity)) for uid, size, uidl in rows]


def locked(maildir: Path) -> Callable[[], None]:
    """Takes the maildrop for one POP3 session, among all workers; call the result to give it back.

    IMAP does not look at this lock. Raises MaildropLockedError, OSError.
    """
    maildir.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(maildir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise MaildropLockedError from None
    return lambda: os.close(descriptor)
