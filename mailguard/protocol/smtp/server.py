"""The server's side of SMTP and LMTP without a socket: what is legal when, in order, and nothing read as a command
that is none (RFC 5321, RFC 2920, RFC 3207, RFC 4954, RFC 3030, RFC 2033)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace

from mailguard.model.reply import Reply
from mailguard.protocol.smtp import command as cmd
from mailguard.protocol.smtp import rule
from mailguard.protocol.smtp.event import (
    AuthEvent,
    CloseEvent,
    ContentEvent,
    Event,
    HelloEvent,
    Profile,
    ResetEvent,
    StartTlsEvent,
)
from mailguard.protocol.smtp.parameter import decode_base64
from mailguard.protocol.smtp.receiving import Receiving
from mailguard.protocol.wire import NEED_DATA, BareLineEndError, LineTooLongError, ProtocolError, ReceiveBuffer

MAX_COMMAND = 2048  # octets; 512 and the growth that the extensions ask for
MAX_AUTH_LINE = 12_288  # RFC 4954 §4

_SIMPLE = {
    "VRFY": Reply.of(252, "2.5.2", "send some mail and see"),
    "HELP": Reply.of(214, "2.0.0", "see RFC 5321"),
    "NOOP": Reply.of(250, "2.0.0", "ok"),
}


class SmtpServer:
    """One connection. ``receive_data``, then ``next_event`` until NEED_DATA, answering Mail, Rcpt, AuthEvent,
    Xclient and ContentEvent with ``send`` (``send_each`` for content over LMTP); ``data_to_send`` is what to write."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._in = ReceiveBuffer()
        self._out = bytearray()
        self._state = rule.State()
        self._pending: cmd.Command | str | None = None  # what waits for the driver's answer
        self._authenticating = False
        self._receiving = Receiving(profile)
        self._errors = 0
        self._commands = 0
        self._closing = False
        self._told: dict[Reply, bool] = {}  # limits that were hit, and whether the driver knows

    @property
    def receiving(self) -> bool:
        """Whether the client is in the middle of a message."""
        return self._receiving.busy

    def greet(self) -> None:
        """The banner."""
        protocol = "LMTP" if self.profile.lmtp else "ESMTP"
        self._reply(Reply.of(220, "", f"{self.profile.hostname} {protocol} mailguard"))

    def receive_data(self, data: bytes) -> None:
        """Takes octets as they arrive."""
        if not self._closing:
            self._in.feed(data)

    def data_to_send(self) -> bytes:
        """What is to be written now."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def send(self, reply: Reply, *, close: bool = False, authenticated: bool = False) -> None:
        """Answers the event handed out last; over LMTP, content is answered so for each recipient. ``authenticated``
        goes with the answer to XCLIENT: the client that is spoken for is signed in."""
        count = self._state.rcpts if self._pending == "content" and self.profile.lmtp else 1
        self.send_each([reply] * count, close=close)
        self._state.authenticated |= authenticated

    def send_each(self, replies: Sequence[Reply], *, close: bool = False) -> None:
        """Answers with several replies: to content over LMTP, one for each recipient in their order (RFC 2033 §4.2)."""
        pending, self._pending = self._pending, None
        state, reply = self._state, replies[0]
        utf8 = state.mail is not None and state.mail.smtputf8
        if isinstance(pending, cmd.Mail) and reply.ok:
            state.mail, state.rcpts = pending, 0
            state.mails += 1
        elif isinstance(pending, cmd.Rcpt) and reply.ok:
            state.rcpts += 1
        elif isinstance(pending, cmd.Xclient) and reply.ok:
            self._start_anew()
        elif pending == "auth":
            self._authenticating = False
            state.authenticated = reply.code == 235
        elif pending == "content":
            self._reset()
        for each in replies:
            self._reply(each, utf8=utf8)
        if close or reply.code == 421:
            self.close()

    def challenge(self, data: bytes) -> None:
        """Goes on with AUTH."""
        self._pending = None
        self._out += b"334 " + base64.b64encode(data) + b"\r\n"

    def secured(self, mechanisms: Sequence[str]) -> None:
        """TLS is up: everything said in clear is forgotten (RFC 3207 §4.2)."""
        self.profile = replace(self.profile, starttls=False, mechanisms=tuple(mechanisms), secured=True)
        self._in.clear()
        self._start_anew()

    def close(self) -> None:
        """Nothing that follows is read as a command."""
        self._closing = True
        self._in.clear()

    def _start_anew(self) -> None:
        self._state = rule.State(mails=self._state.mails)
        self._receiving = Receiving(self.profile)

    def _reset(self) -> None:
        self._state.mail, self._state.rcpts = None, 0
        self._receiving = Receiving(self.profile)

    def _reply(self, reply: Reply, *, utf8: bool = False) -> None:
        octets = reply.encode()
        if not utf8 and not octets.isascii():  # RFC 6531 §3.7.4.1
            octets = octets.decode().encode("ascii", "replace")
        self._out += octets
        if reply.permanent:
            self._errors += 1
            if self._errors >= self.profile.errors_max and not self._closing:
                self._limit(Reply.of(421, "4.7.0", f"{self._errors} errors: closing this connection"))
                self.close()

    def _limit(self, reply: Reply) -> None:
        self._told.setdefault(reply, False)
        self._reply(reply)

    def limits_hit(self) -> list[Reply]:
        """What was said since the last call to a client that went too far, each text once: for the log."""
        if not self._told:
            return []
        new = [reply for reply, told in self._told.items() if not told]
        self._told |= dict.fromkeys(new, True)
        return new

    def next_event(self) -> Event:
        """The next thing to decide, or NEED_DATA."""
        while True:
            if self._closing:
                return CloseEvent()
            if self._pending is not None:
                return NEED_DATA
            if self._receiving.busy:
                event = self._read_content()
            elif len(self._in):
                event = self._read_command()
            else:
                return NEED_DATA
            if event is not None:
                return event

    def _read_content(self) -> Event | None:
        found = self._receiving.read(self._in)
        if isinstance(found, Reply):
            self._reply(found)
            return None
        if isinstance(found, ContentEvent):
            self._pending = "content"
        return found

    def _read_command(self) -> Event | None:
        try:
            line = self._in.take_line(MAX_AUTH_LINE if self._authenticating else MAX_COMMAND, crlf_only=True)
            if line is NEED_DATA:
                return NEED_DATA
            assert isinstance(line, bytes)
            self._count()
            return self._auth_line(line) if self._authenticating else self._command(cmd.parse(line))
        except BareLineEndError:
            # Whoever sends this may be smuggling (RFC 5321 §2.3.8): nothing behind it is looked at.
            self._limit(Reply.of(521, "5.5.2", "a command must end with CRLF, not with LF alone"))
            self.close()
        except LineTooLongError as error:
            self._authenticating = False
            self._limit(Reply.of(500, "5.5.2", error.text))
        except ProtocolError as error:
            self._reply(error.reply or Reply.of(501, "5.5.2", error.text))
            if error.fatal:
                self.close()
        return None

    def _count(self) -> None:
        self._commands += 1
        if self._commands > self.profile.commands_max:
            text = f"more than {self.profile.commands_max} commands: closing this connection"
            self._told.setdefault(Reply.of(421, "4.7.0", text), False)
            raise ProtocolError(text, reply=Reply.of(421, "4.7.0", text), fatal=True)

    def _auth_line(self, line: bytes) -> Event | None:
        self._authenticating = False
        if line == b"*":
            self._reply(Reply.of(501, "5.7.0", "authentication cancelled"))
            return None
        response = decode_base64(line.decode("ascii", "replace"))
        self._pending, self._authenticating = "auth", True
        return AuthEvent("", response)

    def _command(self, command: cmd.Command) -> Event | None:
        match command:
            case cmd.Hello():
                return self._on_hello(command)
            case cmd.Mail():
                return self._ask(command, rule.refused_mail(self.profile, self._state, command))
            case cmd.Rcpt():
                return self._ask(command, rule.refused_rcpt(self.profile, self._state, command))
            case cmd.Xclient():
                return self._ask(command, rule.refused_xclient(self.profile, self._state))
            case cmd.Auth():
                return self._on_auth(command)
            case cmd.Bdat():
                self._on_bdat(command)
                return None
            case cmd.Simple():
                return self._on_simple(command.verb)

    def _ask(self, command: cmd.Mail | cmd.Rcpt | cmd.Xclient, refused: Reply | None) -> Event | None:
        """Hands the command to the driver unless it is refused already."""
        if refused is not None:
            if refused.code in (421, 452, 552):
                self._limit(refused)
            else:
                self._reply(refused)
            if refused.code == 421:
                self.close()
            return None
        self._pending = command
        return command

    def _on_hello(self, command: cmd.Hello) -> Event | None:
        if refused := rule.refused_hello(self.profile, command.verb):
            self._reply(refused)
            return None
        self._reset()
        self._state.hello = True
        esmtp = command.verb != "HELO"
        greeting = f"{self.profile.hostname} greets {command.name}"[:200]
        self._reply(Reply.of(250, "", greeting, *(rule.extensions(self.profile) if esmtp else ())))
        return HelloEvent(command.name, esmtp)

    def _on_auth(self, command: cmd.Auth) -> Event | None:
        if refused := rule.refused_auth(self.profile, self._state, command):
            self._reply(refused)
            return None
        self._pending, self._authenticating = "auth", True
        return AuthEvent(command.mechanism.upper(), command.initial)

    def _on_bdat(self, command: cmd.Bdat) -> None:
        refused = None
        if self._state.mail is None or not self._state.rcpts:
            refused = Reply.of(503, "5.5.1", "MAIL and a valid RCPT come first")
        self._receiving.start_chunk(command.size, last=command.last, refused=refused)

    def _on_simple(self, verb: str) -> Event | None:
        match verb:
            case "DATA":
                refused = rule.refused_data(self.profile, self._state, by_chunks=self._receiving.by_chunks)
                if refused is None:
                    self._receiving.start_data()
                self._reply(refused or Reply.of(354, "", "end with <CRLF>.<CRLF>"))
            case "RSET":
                dropped = self._state.mail is not None
                self._reset()
                self._reply(Reply.of(250, "2.0.0", "reset"))
                return ResetEvent() if dropped else None
            case "QUIT":
                self._reply(Reply.of(221, "2.0.0", f"{self.profile.hostname} closes the connection"))
                self.close()
            case "STARTTLS":
                return self._on_starttls()
            case _:
                self._reply(_SIMPLE.get(verb) or Reply.of(502, "5.5.1", f"{verb} is not available"))
        return None

    def _on_starttls(self) -> Event | None:
        if not self.profile.starttls:
            self._reply(Reply.of(503 if self.profile.secured else 502, "5.5.1", "TLS is up or not available"))
            return None
        self._reply(Reply.of(220, "2.0.0", "go ahead"))
        self._in.clear()
        return StartTlsEvent()
