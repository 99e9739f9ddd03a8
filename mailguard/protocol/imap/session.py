"""The IMAP server's side of a connection, without its socket: order of commands, states, literals, what is on offer.

Feed it what arrives, ask for events until NEED_DATA, send what ``take_output`` gives. Each event stops the session
until its answer is given by one of ``ok``, ``no``, ``bad``; Idle by ``idling``, SASL steps by ``challenge``.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field

from mailguard.protocol.imap import framing
from mailguard.protocol.imap.arguments import Authenticate
from mailguard.protocol.imap.command import COMMANDS, State, decode_response
from mailguard.protocol.imap.framing import Framing
from mailguard.protocol.imap.lexer import CommandError, Lexer
from mailguard.protocol.wire import NEED_DATA, NeedData

MAX_ERRORS = 20  # in a row
MAX_RESPONSE = 16_384  # octets of one SASL response
BEFORE_SIGN_IN = 8_192  # octets of literals of one command
AFTER_SIGN_IN = 262_144


@dataclass(frozen=True, slots=True)
class Offer:
    """What a connection may do: SASL ``mechanisms``, LOGIN (``cleartext``), STARTTLS, messages up to
    ``append_limit`` octets; ``capabilities`` after sign-in, ``hidden`` those kept from this account."""

    mechanisms: tuple[str, ...] = ()
    cleartext: bool = False
    starttls: bool = False
    capabilities: tuple[str, ...] = ()
    append_limit: int = 52_428_800
    hidden: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Request:
    """A command to be carried out; ``name`` as in ``COMMANDS``, ``arguments`` what its parser made."""

    tag: bytes
    name: str
    arguments: object = field(repr=False)


@dataclass(frozen=True, slots=True)
class SaslBegin:
    """AUTHENTICATE."""

    mechanism: str
    response: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class SaslResponse:
    """The client's next response."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class IdleDone:
    """The client ends its IDLE; answer with ``ok``."""


Event = Request | SaslBegin | SaslResponse | IdleDone
_BASE = ("IMAP4rev1", "LITERAL-", "SASL-IR", "ID", "ENABLE")


class ImapSession:
    """One connection. ``state`` and ``enabled`` (words of ENABLE, and CONDSTORE by use) are for the driver to set."""

    def __init__(self, offer: Offer, greeting: str = "ready") -> None:
        self.offer = offer
        self.state = State.NOT_AUTHENTICATED
        self.enabled: set[str] = set()
        self.tag = b""
        self._framing = Framing(max_literal=BEFORE_SIGN_IN)
        self._out: list[bytes] = []
        self._size = 0
        self._sasl = False
        self._idle = False
        self._pending = False
        self._errors = 0
        self.send(b"* OK [CAPABILITY %b] %b\r\n" % (self.capability(), greeting.encode()))

    @property
    def utf8(self) -> bool:
        """Whether names and strings are UTF-8 on this connection."""
        return bool(self.enabled & {"UTF8=ACCEPT", "IMAP4REV2"})

    @property
    def idle(self) -> bool:
        """Whether the client is in IDLE."""
        return self._idle

    @property
    def output_size(self) -> int:
        """Octets that wait in ``take_output``."""
        return self._size

    @property
    def buffered(self) -> bool:
        """Whether input has arrived that was not consumed yet."""
        return len(self._framing.buffer) > 0

    def capability(self) -> bytes:
        """The capabilities as of now, in one line."""
        offer, words = self.offer, list(_BASE)
        if self.state is State.NOT_AUTHENTICATED:
            revisions = [w for w in offer.capabilities if w == "IMAP4rev2"]  # clients want to know at once
            words += [*revisions, *(f"AUTH={name}" for name in offer.mechanisms)]
            words += ["STARTTLS"] if offer.starttls else []
            words += [] if offer.cleartext else ["LOGINDISABLED"]
        else:
            words += [w for w in offer.capabilities if w.upper() not in offer.hidden]
            words.append(f"APPENDLIMIT={offer.append_limit}")
            words = [w for w in words if w.upper() not in offer.hidden]
        return " ".join(words).encode()

    def receive_data(self, data: bytes) -> None:
        """Takes octets as they arrive."""
        self._framing.receive_data(data)

    def send(self, data: bytes) -> None:
        """Adds an untagged response, or several, CRLF included."""
        self._out.append(data)
        self._size += len(data)

    def send_all(self, lines: Iterable[bytes]) -> None:
        """Adds several."""
        for line in lines:
            self.send(line)

    def take_input(self) -> bytes:
        """Gives back what arrived and was not looked at yet."""
        return self._framing.buffer.take_all()

    def take_output(self) -> bytes:
        """What must be sent now; ``b""`` if nothing."""
        out = b"".join(self._out)
        self._out.clear()
        self._size = 0
        return out

    def next_event(self) -> Event | NeedData:
        """The next thing for the driver to do. Never raises; mistakes are answered here."""
        assert not self._pending, "the last event was not answered"
        while self.state is not State.LOGOUT:
            event = self._framing.next_event()
            if event is NEED_DATA:
                return NEED_DATA
            found = self._take(event)
            if found is not None:
                self._pending = True
                return found
        return NEED_DATA

    def _take(self, event: framing.Event) -> Event | None:
        match event:
            case framing.WantsContinuation():
                self.send(b"+ go on\r\n")
            case framing.Refused():
                self._refused(event)
            case framing.Command():
                try:
                    if self._sasl:
                        return self._sasl_line(event)
                    if self._idle:
                        return self._idle_line(event)
                    return self._command(event)
                except CommandError as error:
                    self._mistake(error)
        return None

    def _refused(self, event: framing.Refused) -> None:
        if event.fatal:
            self.close(event.text, "TOOBIG" if event.too_big else "")
            return
        self.tag = event.tag
        self._sasl = self._idle = False
        self._mistake(CommandError(event.text, status="NO" if event.too_big and not event.unannounced else "BAD",
                                   code="TOOBIG" if event.too_big else ""))  # fmt: skip

    def _command(self, event: framing.Command) -> Event | None:
        tag, space, rest = event.parts[0].partition(b" ")
        self.tag = b"*"
        if not tag or len(tag) > 64 or not tag.isascii() or set(tag) & set(b'(){%*+"\\ \x7f') or min(tag) <= 32:
            raise CommandError("a command begins with a tag")
        self.tag = tag
        command = framing.Command((rest, *event.parts[1:]), event.literals, event.binary)
        lexer = Lexer(command, utf8=self.utf8, accepts_utf8="UTF8=ACCEPT" in self.enabled)
        if not space:
            raise CommandError("a command is missing behind the tag")
        name = lexer.word()
        if name == "UID":
            lexer.space()
            name = f"UID {lexer.word()}"
        kind = COMMANDS.get(name)
        if kind is None:
            raise CommandError(f"no command {name[:40]}")
        if self.state not in kind.states:
            raise CommandError(f"{name} is not for now ({self.state.value})")
        arguments = kind.parse(lexer)
        lexer.end()
        if isinstance(arguments, Authenticate):
            self._sasl = True
            return SaslBegin(arguments.mechanism, arguments.response)
        return Request(self.tag, name, arguments)

    def _sasl_line(self, event: framing.Command) -> Event | None:
        line = event.parts[0]
        if line == b"*" or len(line) > MAX_RESPONSE or event.literals:
            self._sasl = False
            raise CommandError("the client gave up" if line == b"*" else "too long for a response")
        try:
            return SaslResponse(decode_response(line))
        except CommandError:
            self._sasl = False
            raise

    def _idle_line(self, event: framing.Command) -> Event | None:
        self._idle = False
        if event.parts[0].upper() != b"DONE" or event.literals:
            raise CommandError("IDLE ends with DONE")
        return IdleDone()

    def _mistake(self, error: CommandError) -> None:
        self._errors += 1
        self._result(error.status, error.text, error.code)
        if self._errors >= MAX_ERRORS:
            self.close("too many mistakes")

    def ok(self, text: str = "done", code: str = "") -> None:
        """The event succeeded."""
        self._errors = 0
        self._answered()
        self._result("OK", text, code)

    def no(self, text: str, code: str = "") -> None:
        """The event could not be carried out."""
        self._answered()
        self._result("NO", text, code)

    def bad(self, text: str, code: str = "") -> None:
        """The command made no sense after all."""
        self.fail(CommandError(text, code=code))

    def fail(self, error: CommandError) -> None:
        """The event is answered as the error says."""
        self._answered()
        self._mistake(error) if error.status == "BAD" else self._result(error.status, error.text, error.code)

    def _answered(self) -> None:
        self._pending = False
        self._sasl = False

    def _result(self, status: str, text: str, code: str) -> None:
        bracket = f"[{code}] " if code else ""
        self.send(b"%b %b %b%b\r\n" % (self.tag, status.encode(), bracket.encode(), self._readable(text)))

    def _readable(self, text: str) -> bytes:
        """Text for people, in ASCII unless the client takes UTF-8 (RFC 9051 appendix A)."""
        if self.utf8:
            return text.encode("utf-8", "replace")
        return text.replace("§", "section ").encode("ascii", "backslashreplace")

    def challenge(self, data: bytes) -> None:
        """The SASL exchange goes on."""
        self._pending = False
        self.send(b"+ %b\r\n" % base64.b64encode(data))

    def idling(self) -> None:
        """The client's IDLE begins."""
        self._pending = False
        self._idle = True
        self.send(b"+ idling\r\n")

    def tls_started(self, offer: Offer) -> None:
        """TLS has begun: what the client sent before does not count (RFC 9051 §6.2.1)."""
        self._framing = Framing(max_literal=BEFORE_SIGN_IN)
        self.offer = offer

    def signed_in(self, offer: Offer) -> None:
        """The client is who it says it is; answers the event."""
        self.offer = offer
        self.state = State.AUTHENTICATED
        self._framing.max_literal = AFTER_SIGN_IN
        self._framing.max_append = offer.append_limit
        self.ok("signed in", f"CAPABILITY {self.capability().decode()}")

    def close(self, text: str, code: str = "") -> None:
        """Says BYE; nothing is read any more."""
        bracket = f"[{code}] " if code else ""
        self.send(b"* BYE %b%b\r\n" % (bracket.encode(), self._readable(text)))
        self.state = State.LOGOUT
        self._pending = False
        self._framing = Framing()  # half a literal may be large
