"""The POP3 server's side of a session, without its socket (RFC 1939, 2449, 2595, 3206, 5034, 6856).

Feed it what arrives, ask for events until NEED_DATA, send what ``take_output`` gives. Events that need an
answer of the driver (all but Quit) stop the session until it has answered.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence

from mailguard.protocol.pop3.command import MAX_LINE, MAX_RESPONSE, Command, parse
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
from mailguard.protocol.pop3.maildrop import Entry, Maildrop
from mailguard.protocol.pop3.response import capabilities, one_line, stuffed, top
from mailguard.protocol.wire import NEED_DATA, LineTooLongError, NeedData, ProtocolError, ReceiveBuffer

MAX_ERRORS = 10  # before sign-in, and in a row after it: a session cut off loses its deletions


class Pop3Session:
    """One session. ``utf8`` becomes true once the client can take UTF-8 in headers (RFC 6856)."""

    def __init__(self, offer: Offer, greeting: str = "POP3 ready") -> None:
        self._offer = offer
        self._buffer = ReceiveBuffer()
        self._out: list[bytes] = [f"+OK {greeting}\r\n".encode()]
        self.state = State.AUTHORIZATION
        self.utf8 = False
        self._user: str | None = None
        self._sasl = False
        self._errors = 0
        self._drop = Maildrop(())
        self._verbs: dict[str, Callable[[Command], Event | None]] = {
            "CAPA": self._capa, "QUIT": self._quit, "LANG": self._lang, "NOOP": self._noop,
        }  # fmt: skip
        self._before: dict[str, Callable[[Command], Event | None]] = {
            "USER": self._user_name, "PASS": self._password, "AUTH": self._auth, "STLS": self._stls,
            "UTF8": self._enable_utf8,
        }  # fmt: skip
        self._after: dict[str, Callable[[Command], Event | None]] = {
            "STAT": self._stat, "LIST": self._list, "UIDL": self._uidl, "RETR": self._retr, "TOP": self._top,
            "DELE": self._dele, "RSET": self._rset, "LAST": self._last,
        }  # fmt: skip

    def receive_data(self, data: bytes) -> None:
        """Takes octets as they arrived."""
        self._buffer.feed(data)

    def take_output(self) -> bytes:
        """What must be sent now; ``b""`` if nothing."""
        out = b"".join(self._out) if len(self._out) != 1 else self._out[0]
        self._out.clear()
        return out

    def next_event(self) -> Event | NeedData:
        """Handles commands up to the first one the driver must see. Never raises."""
        while self.state is not State.CLOSED:
            try:
                event = self._next_line()
            except ProtocolError as error:
                self._fail(error.text)
                continue
            if event is not None:
                return event
            if self.state is State.TRANSACTION:
                self._errors = 0
        return NEED_DATA

    def _next_line(self) -> Event | NeedData | None:
        if self._sasl:
            return self._sasl_line()
        line = self._buffer.take_line(MAX_LINE)
        if line is NEED_DATA:
            return NEED_DATA
        return self._dispatch(parse(line))

    def _dispatch(self, command: Command) -> Event | None:
        handler = self._verbs.get(command.verb)
        if handler is None:
            table = self._before if self.state is State.AUTHORIZATION else self._after
            handler = table.get(command.verb)
        if handler is None:
            wrong = command.verb in self._before or command.verb in self._after
            raise ProtocolError("not in this state" if wrong else "not offered")
        return handler(command)

    # What the driver answers.

    def opened(self, entries: Sequence[Entry]) -> None:
        """The sign-in succeeded and these are the messages, in the order of their numbers."""
        self._sasl = False
        self.state = State.TRANSACTION
        self._drop = Maildrop(entries)
        self._ok(f"{self._drop.count} messages ({self._drop.octets} octets)")

    def refused(self, text: str, code: str = "AUTH") -> None:
        """The sign-in failed: ``code`` is AUTH, SYS/TEMP, SYS/PERM, IN-USE... (RFC 2449 §8, RFC 3206)."""
        self._sasl = False
        self._user = None
        self._fail(text, code)

    def challenge(self, data: bytes) -> None:
        """The SASL exchange goes on."""
        self._sasl = True
        self._out.append(b"+ " + base64.b64encode(data) + b"\r\n")

    def message(self, event: Retrieve, raw: bytes) -> None:
        """The message asked for, whole, with CRLF line ends."""
        self._errors = 0
        if event.lines is None:
            self._out.append(b"+OK %d octets\r\n" % len(raw))
            self._out.append(stuffed(raw))
        else:
            self._out.append(b"+OK\r\n")
            self._out.append(stuffed(top(raw, event.lines)))

    def failed(self, text: str, code: str = "") -> None:
        """The message cannot be had, which is no mistake of the client's."""
        self._say(text, code)

    def tls_started(self, offer: Offer) -> None:
        """TLS is up: what came before it is forgotten (RFC 2595 §4)."""
        self._buffer.clear()
        self._offer = offer
        self._user = None

    def closed(self, *, ok: bool = True) -> None:
        """The deletions of Quit were done, or (RFC 1939 §6) some of them could not be."""
        self._out.append(b"+OK bye\r\n" if ok else b"-ERR [SYS/TEMP] some deleted messages were not removed\r\n")
        self.state = State.CLOSED

    def close(self, text: str) -> None:
        """Ends the session from our side; deletes nothing."""
        self._out.append(b"-ERR %s\r\n" % one_line(text))
        self.state = State.CLOSED

    # Commands.

    def _ok(self, text: str = "") -> None:
        self._out.append(b"+OK %s\r\n" % one_line(text) if text else b"+OK\r\n")

    def _say(self, text: str, code: str) -> None:
        self._out.append(b"-ERR %s\r\n" % one_line(f"[{code}] {text}" if code else text))

    def _fail(self, text: str, code: str = "") -> None:
        self._say(text, code)
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            self.close("too many errors")

    def _capa(self, _command: Command) -> None:
        self._out.append(capabilities(self._offer, self.state))

    def _quit(self, _command: Command) -> Event | None:
        if self.state is State.AUTHORIZATION:
            self.closed()
            return None
        return Quit(self._drop.deleted)

    def _noop(self, _command: Command) -> None:
        if self.state is State.AUTHORIZATION:
            raise ProtocolError("not in this state")
        self._ok()

    def _lang(self, command: Command) -> None:
        if not command.arguments:
            self._out.append(b"+OK\r\nen English\r\ni-default Default\r\n.\r\n")
        elif command.arguments[0].lower() in (b"en", b"i-default", b"*"):
            self._ok("en the language is English")
        else:
            raise ProtocolError("only English is spoken here")

    def _enable_utf8(self, _command: Command) -> None:
        self.utf8 = True
        self._ok("UTF-8 it is")

    def _user_name(self, command: Command) -> None:
        if not self._offer.cleartext:
            raise ProtocolError("use STLS first: no password goes over an open line")
        try:
            self._user = command.arguments[0].decode()
        except UnicodeDecodeError:
            raise ProtocolError("the name is not UTF-8") from None
        self._ok("and the password?")

    def _password(self, command: Command) -> Event:
        if self._user is None:
            raise ProtocolError("USER comes first")
        user, self._user = self._user, None
        try:
            return Password(user, command.arguments[0].decode())
        except UnicodeDecodeError:
            raise ProtocolError("the password is not UTF-8") from None

    def _auth(self, command: Command) -> Event | None:
        if not command.arguments:  # how clients asked before CAPA existed
            names = "".join(f"{name}\r\n" for name in self._offer.mechanisms)
            self._out.append(f"+OK\r\n{names}.\r\n".encode())
            return None
        mechanism = command.arguments[0].decode("ascii", "replace").upper()
        if mechanism not in self._offer.mechanisms:
            raise ProtocolError("that mechanism is not offered here")
        if len(command.arguments) == 1:
            return SaslBegin(mechanism, None)
        initial = command.arguments[1]
        return SaslBegin(mechanism, b"" if initial == b"=" else _base64(initial))

    def _sasl_line(self) -> Event | NeedData:
        try:
            line = self._buffer.take_line(MAX_RESPONSE)
            if line is NEED_DATA:
                return NEED_DATA
            self._sasl = False
            if line == b"*":
                raise ProtocolError("the exchange was called off")
            return SaslResponse(_base64(line))
        except LineTooLongError:
            self._sasl = False
            raise

    def _stls(self, _command: Command) -> Event:
        if not self._offer.stls:
            raise ProtocolError("TLS cannot be started here")
        self._buffer.clear()
        self._ok("begin TLS")
        return StartTls()

    def _stat(self, _command: Command) -> None:
        self._out.append(b"+OK %d %d\r\n" % (self._drop.count, self._drop.octets))

    def _list(self, command: Command) -> None:
        if command.arguments:
            number = command.number(0)
            self._out.append(b"+OK %d %d\r\n" % (number, self._drop.entry(number).size))
            return
        lines = "".join(f"{number} {entry.size}\r\n" for number, entry in self._drop.numbered())
        self._out.append(f"+OK {self._drop.count} messages\r\n{lines}.\r\n".encode())

    def _uidl(self, command: Command) -> None:
        if command.arguments:
            number = command.number(0)
            self._out.append(f"+OK {number} {self._drop.entry(number).uidl}\r\n".encode())
            return
        lines = "".join(f"{number} {entry.uidl}\r\n" for number, entry in self._drop.numbered())
        self._out.append(f"+OK\r\n{lines}.\r\n".encode())

    def _retr(self, command: Command) -> Event:
        number = command.number(0)
        return Retrieve(number, self._drop.entry(number), None)

    def _top(self, command: Command) -> Event:
        number = command.number(0)
        return Retrieve(number, self._drop.entry(number), command.number(1))

    def _dele(self, command: Command) -> None:
        self._drop.delete(command.number(0))
        self._ok()

    def _rset(self, _command: Command) -> None:
        self._drop.reset()
        self._ok()

    def _last(self, _command: Command) -> None:
        raise ProtocolError("LAST went out of use long ago; use UIDL")


def _base64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ProtocolError("that is not base64") from None
