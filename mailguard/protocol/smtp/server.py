"""The server's side of SMTP without a socket: what is legal when, in order, and nothing read as a command that is
none (RFC 5321, RFC 2920, RFC 3207, RFC 4954, RFC 3030)."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from mailguard.model.reply import Reply
from mailguard.protocol.smtp import command as cmd
from mailguard.protocol.smtp.data import ContentReader
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
from mailguard.protocol.wire import NEED_DATA, LineTooLongError, ProtocolError, ReceiveBuffer

MAX_COMMAND = 2048  # octets; 512 and the growth that the extensions ask for
MAX_AUTH_LINE = 12_288  # RFC 4954 §4


class SmtpServer:
    """One connection. ``receive_data``, then ``next_event`` until NEED_DATA, answering Mail, Rcpt, AuthEvent and
    ContentEvent with ``send``; ``data_to_send`` is what to write."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self._in = ReceiveBuffer()
        self._out = bytearray()
        self._pending: cmd.Command | str | None = None  # what waits for the driver's answer
        self._hello = False
        self._authenticated = False
        self._authenticating = False
        self._mail: cmd.Mail | None = None
        self._rcpts = 0
        self._reader: ContentReader | None = None
        self._chunk = -1  # octets of the running BDAT chunk still to come
        self._in_bdat = False
        self._last_chunk = False
        self._refused_chunk: Reply | None = None
        self._errors = 0
        self._closing = False

    def greet(self) -> None:
        """The banner."""
        self._reply(Reply.of(220, "", f"{self.profile.hostname} ESMTP mailguard"))

    def receive_data(self, data: bytes) -> None:
        """Takes octets as they arrive."""
        if not self._closing:
            self._in.feed(data)

    def data_to_send(self) -> bytes:
        """What is to be written now."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def send(self, reply: Reply, *, close: bool = False) -> None:
        """Answers the event handed out last."""
        pending, self._pending = self._pending, None
        if isinstance(pending, cmd.Mail) and reply.ok:
            self._mail, self._rcpts = pending, 0
        elif isinstance(pending, cmd.Rcpt) and reply.ok:
            self._rcpts += 1
        elif pending == "auth":
            self._authenticating = False
            self._authenticated = reply.code == 235
        elif pending == "content":
            self._reset()
        self._reply(reply)
        if close or reply.code == 421:
            self.close()

    def challenge(self, data: bytes) -> None:
        """Goes on with AUTH."""
        self._pending = None
        self._out += b"334 " + base64.b64encode(data) + b"\r\n"

    def secured(self, mechanisms: Sequence[str]) -> None:
        """TLS is up: everything said in clear is forgotten (RFC 3207 §4.2)."""
        p = self.profile
        self.profile = Profile(p.hostname, p.size_limit, p.rcpt_max, False, tuple(mechanisms), p.needs_auth, True)
        self._in.clear()
        self._hello = False
        self._reset()

    def close(self) -> None:
        """Nothing that follows is read as a command."""
        self._closing = True
        self._in.clear()

    def _reset(self) -> None:
        self._mail, self._rcpts, self._reader, self._chunk = None, 0, None, -1
        self._in_bdat, self._last_chunk, self._refused_chunk = False, False, None

    def _reply(self, reply: Reply) -> None:
        self._out += reply.encode()
        if reply.permanent:
            self._errors += 1
            if self._errors >= self.profile.errors_max and not self._closing:
                self._out += Reply.of(421, "4.7.0", f"{self._errors} errors: closing this connection").encode()
                self.close()

    def next_event(self) -> Event:
        """The next thing to decide, or NEED_DATA."""
        while True:
            if self._closing:
                return CloseEvent()
            if self._pending is not None:
                return NEED_DATA
            if self._chunk >= 0:
                event: Event | None = self._read_chunk()
            elif self._reader is not None and not self._in_bdat:
                event = self._read_data()
            else:
                event = self._read_command()
            if event is not None:
                return event

    def _read_data(self) -> Event:
        assert self._reader is not None
        rest = self._reader.feed_data(self._in.take_all())
        if rest is None:
            return NEED_DATA
        self._in.feed(rest)
        return self._content(stuffed=True)

    def _content(self, *, stuffed: bool) -> ContentEvent:
        reader = self._reader
        assert reader is not None
        raw = reader.take(last=True, stuffed=stuffed) or b""
        self._pending = "content"
        return ContentEvent(raw, reader.flaw)

    def _read_chunk(self) -> Event | None:
        block = self._in.take(self._chunk)
        self._chunk -= len(block)
        if self._reader is not None and self._refused_chunk is None:
            self._reader.feed_chunk(block)
        if self._chunk:
            return NEED_DATA
        self._chunk = -1
        if self._refused_chunk is not None:
            refused, self._refused_chunk = self._refused_chunk, None
            self._reply(refused)
            return None
        if self._last_chunk:
            return self._content(stuffed=False)
        self._reply(Reply.of(250, "2.0.0", "chunk received"))
        return None

    def _read_command(self) -> Event | None:
        try:
            line = self._in.take_line(MAX_AUTH_LINE if self._authenticating else MAX_COMMAND)
            if line is NEED_DATA:
                return NEED_DATA
            assert isinstance(line, bytes)
            return self._auth_line(line) if self._authenticating else self._command(cmd.parse(line))
        except LineTooLongError:
            self._authenticating = False
            self._reply(Reply.of(500, "5.5.2", f"line longer than {MAX_COMMAND} octets"))
        except ProtocolError as error:
            self._reply(error.reply or Reply.of(501, "5.5.2", error.text))
            if error.fatal:
                self.close()
        return None

    def _auth_line(self, line: bytes) -> Event | None:
        if line == b"*":
            self._authenticating = False
            self._reply(Reply.of(501, "5.7.0", "authentication cancelled"))
            return None
        try:
            response = cmd.decode_base64(line.decode("ascii"))
        except (ProtocolError, UnicodeDecodeError):
            self._authenticating = False
            self._reply(Reply.of(501, "5.5.2", "not base64"))
            return None
        self._pending = "auth"
        return AuthEvent("", response)

    def _command(self, command: cmd.Command) -> Event | None:
        match command:
            case cmd.Hello():
                return self._on_hello(command)
            case cmd.Mail():
                return self._on_mail(command)
            case cmd.Rcpt():
                return self._on_rcpt(command)
            case cmd.Auth():
                return self._on_auth(command)
            case cmd.Bdat():
                self._on_bdat(command)
            case cmd.Simple():
                return self._on_simple(command.verb)
            case _:
                self._reply(Reply.of(502, "5.5.1", "command not available here"))
        return None

    def _on_hello(self, command: cmd.Hello) -> Event | None:
        if command.verb == "LHLO":
            self._reply(Reply.of(500, "5.5.1", "this is SMTP, say EHLO"))
            return None
        self._hello = True
        self._reset()
        esmtp = command.verb == "EHLO"
        lines = [f"{self.profile.hostname} greets {command.name}"[:200], *(self._extensions() if esmtp else ())]
        self._reply(Reply.of(250, "", *lines))
        return HelloEvent(command.name, esmtp)

    def _extensions(self) -> list[str]:
        p = self.profile
        found = [f"SIZE {p.size_limit}", "PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN", "CHUNKING"]
        found.append(f"LIMITS RCPTMAX={p.rcpt_max}")
        if p.starttls:
            found.append("STARTTLS")
        if p.secured and not p.needs_auth:
            found.append("REQUIRETLS")
        if p.mechanisms:
            found.append("AUTH " + " ".join(p.mechanisms))
        return found

    def _on_mail(self, command: cmd.Mail) -> Event | None:
        problem = None
        if not self._hello:
            problem = Reply.of(503, "5.5.1", "say EHLO first")
        elif self._mail is not None:
            problem = Reply.of(503, "5.5.1", "a transaction is under way already")
        elif self.profile.needs_auth and not self._authenticated:
            problem = Reply.of(530, "5.7.0", "authentication is required on this port")
        elif command.size > self.profile.size_limit:
            problem = Reply.of(552, "5.3.4", f"at most {self.profile.size_limit} octets are accepted")
        elif command.require_tls and not self.profile.secured:
            problem = Reply.of(550, "5.7.10", "REQUIRETLS needs TLS")
        if problem:
            self._reply(problem)
            return None
        self._pending = command
        return command

    def _on_rcpt(self, command: cmd.Rcpt) -> Event | None:
        if self._mail is None:
            self._reply(Reply.of(503, "5.5.1", "MAIL first"))
        elif self._rcpts >= self.profile.rcpt_max:
            self._reply(Reply.of(452, "4.5.3", f"more than {self.profile.rcpt_max} recipients: send the rest again"))
        else:
            self._pending = command
            return command
        return None

    def _on_auth(self, command: cmd.Auth) -> Event | None:
        problem = None
        if not self.profile.mechanisms:
            problem = Reply.of(502, "5.5.1", "no AUTH on this port")
            if self.profile.starttls and self.profile.needs_auth:
                problem = Reply.of(538, "5.7.11", "sign in inside TLS only: STARTTLS first")
        elif not self._hello or self._mail is not None or self._authenticated:
            problem = Reply.of(503, "5.5.1", "AUTH comes once, after EHLO and outside a transaction")
        elif command.mechanism.upper() not in self.profile.mechanisms:
            problem = Reply.of(504, "5.5.4", f"mechanisms here: {' '.join(self.profile.mechanisms)}")
        if problem:
            self._reply(problem)
            return None
        self._pending, self._authenticating = "auth", True
        return AuthEvent(command.mechanism.upper(), command.initial)

    def _on_bdat(self, command: cmd.Bdat) -> None:
        self._chunk = command.size
        refused = None
        if self._mail is None or not self._rcpts:
            refused = Reply.of(503, "5.5.1", "MAIL and a valid RCPT come first")
        elif self._reader is None:
            self._reader = ContentReader(size_limit=self.profile.size_limit, block=self.profile.size_limit)
            self._in_bdat = True
        self._refused_chunk = refused
        self._last_chunk = command.last and refused is None

    def _on_simple(self, verb: str) -> Event | None:
        match verb:
            case "DATA":
                self._on_data()
            case "RSET":
                dropped = self._mail is not None
                self._reset()
                self._reply(Reply.of(250, "2.0.0", "reset"))
                return ResetEvent() if dropped else None
            case "QUIT":
                self._reply(Reply.of(221, "2.0.0", f"{self.profile.hostname} closes the connection"))
                self.close()
            case "STARTTLS":
                return self._on_starttls()
            case "VRFY":
                self._reply(Reply.of(252, "2.5.2", "send some mail and see"))
            case "HELP":
                self._reply(Reply.of(214, "2.0.0", "see RFC 5321"))
            case "NOOP":
                self._reply(Reply.of(250, "2.0.0", "ok"))
            case _:
                self._reply(Reply.of(502, "5.5.1", f"{verb} is not available"))
        return None

    def _on_data(self) -> None:
        if self._in_bdat:
            self._reply(Reply.of(503, "5.5.1", "BDAT is under way"))
        elif self._mail is None:
            self._reply(Reply.of(503, "5.5.1", "MAIL first"))
        elif not self._rcpts:
            self._reply(Reply.of(554, "5.5.1", "no valid recipients"))
        else:
            self._reader = ContentReader(size_limit=self.profile.size_limit, block=self.profile.size_limit)
            self._reply(Reply.of(354, "", "end with <CRLF>.<CRLF>"))

    def _on_starttls(self) -> Event | None:
        if not self.profile.starttls:
            self._reply(Reply.of(503 if self.profile.secured else 502, "5.5.1", "TLS is up or not available"))
            return None
        self._reply(Reply.of(220, "2.0.0", "go ahead"))
        self._in.clear()
        return StartTlsEvent()
