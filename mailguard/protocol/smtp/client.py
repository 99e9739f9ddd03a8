"""The client's side of SMTP: commands out, one reply for each back, and one for every recipient (RFC 5321 §3).

The caller pumps: write ``data_to_send()``, then ``next_event()``; on NEED_DATA read and ``receive_data()``.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.reply import Reply
from mailguard.protocol.smtp.replyreader import ReplyReader, extensions_of
from mailguard.protocol.wire import NEED_DATA, NeedData, ProtocolError

_UNCLEAR = Reply(451, "4.5.0", ("the server answered out of order",))


class Stage(Enum):
    """What is being waited for; each has a timeout of its own (RFC 5321 §4.5.3.2)."""

    GREETING = "greeting"
    HELLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    BODY = "message"
    FINAL = "end of data"
    RSET = "RSET"
    QUIT = "QUIT"


@dataclass(frozen=True, slots=True)
class Answered:
    """A command outside a transaction got its reply."""

    stage: Stage
    reply: Reply


@dataclass(frozen=True, slots=True)
class GoAhead:
    """The server wants the message: write the octets of ``dot_stuffed`` and say ``body_sent()``."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The transaction is over: ``replies`` has the final answer for each of its recipients, in their order."""

    replies: tuple[Reply, ...]


ClientEvent = Answered | GoAhead | Finished


@dataclass(frozen=True, slots=True)
class Transaction:
    """A message for these recipients; ``size`` in octets as it will be sent, before dot-stuffing."""

    envelope: Envelope
    recipients: tuple[Recipient, ...]
    size: int


class SmtpClient:
    """One client connection. Raises ProtocolError (always fatal) from ``next_event`` when the server talks nonsense."""

    def __init__(self) -> None:
        self.extensions: Mapping[str, str] = {}
        self.greeted = False
        self.closing = False  # the server said 421: it is about to go away
        self._replies = ReplyReader()
        self._out: deque[tuple[Stage, bytes]] = deque()
        self._waiting: deque[Stage] = deque([Stage.GREETING])
        self._transaction: Transaction | None = None
        self._mail: Reply | None = None
        self._rcpt: list[Reply] = []
        self._wants_body = False
        self._useless_data = False

    # -- what the caller asks for -----------------------------------------------------------------------------

    def hello(self, name: str, *, ehlo: bool = True) -> None:
        """EHLO, or HELO for a server that refused it."""
        self.extensions = {}
        self._queue(Stage.HELLO, f"{'EHLO' if ehlo else 'HELO'} {name}")

    def starttls(self) -> None:
        """STARTTLS; after a 220 shake hands, call ``tls_started`` and say hello again (RFC 3207 §4.2)."""
        self._queue(Stage.STARTTLS, "STARTTLS")

    def tls_started(self) -> None:
        """Forgets whatever was said in the clear, buffered octets included."""
        self._replies.clear()
        self.extensions = {}

    def auth_plain(self, user: str, password: str) -> None:
        """AUTH PLAIN with an initial response (RFC 4954 §4, RFC 4616)."""
        token = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        self._queue(Stage.AUTH, f"AUTH PLAIN {token}")

    def auth_login(self) -> None:
        """AUTH LOGIN; answer each 334 with ``auth_line``."""
        self._queue(Stage.AUTH, "AUTH LOGIN")

    def auth_line(self, text: str) -> None:
        """One response of a SASL exchange, base64-encoded here."""
        self._queue(Stage.AUTH, base64.b64encode(text.encode()).decode())

    def begin(self, transaction: Transaction) -> None:
        """MAIL, RCPT and DATA for this transaction, in one go where the server announced PIPELINING (RFC 2920)."""
        if self._transaction is not None:
            raise RuntimeError("a transaction is already open")
        self._transaction, self._mail, self._rcpt = transaction, None, []
        self._useless_data = False
        self._queue(Stage.MAIL, self._mail_line(transaction))
        for recipient in transaction.recipients:
            self._queue(Stage.RCPT, self._rcpt_line(recipient))
        if "PIPELINING" in self.extensions:
            self._queue(Stage.DATA, "DATA")

    def body_sent(self) -> None:
        """The message and its final dot have been written."""
        self._wants_body = False
        self._waiting.append(Stage.FINAL)

    def reset(self) -> None:
        """RSET."""
        self._queue(Stage.RSET, "RSET")

    def quit(self) -> None:
        """QUIT."""
        self._queue(Stage.QUIT, "QUIT")

    # -- the pump ---------------------------------------------------------------------------------------------

    @property
    def stage(self) -> Stage:
        """What the next reply will answer."""
        if self._wants_body:
            return Stage.BODY
        return self._waiting[0] if self._waiting else Stage.RSET

    def has(self, extension: str) -> bool:
        """Whether the server announced it."""
        return extension in self.extensions

    @property
    def max_size(self) -> int:
        """The largest message it takes in octets, 0 if it did not say (RFC 1870)."""
        value = self.extensions.get("SIZE", "")
        return int(value) if value.isascii() and value.isdigit() and len(value) < 19 else 0

    @property
    def auth_mechanisms(self) -> frozenset[str]:
        """The SASL mechanisms announced, in upper case."""
        return frozenset(self.extensions.get("AUTH", "").upper().split())

    def data_to_send(self) -> bytes:
        """What may be written now: everything under PIPELINING, else one command after the reply to the one before."""
        if not self.greeted:
            return b""
        out = bytearray()
        while self._out and (not self._waiting or "PIPELINING" in self.extensions):
            stage, line = self._out.popleft()
            self._waiting.append(stage)
            out += line
        return bytes(out)

    def receive_data(self, data: bytes) -> None:
        """Octets as received. Raises ProtocolError for ``b""``: the server has hung up."""
        if not data:
            raise ProtocolError("the server closed the connection", fatal=True)
        self._replies.feed(data)

    def next_event(self) -> ClientEvent | NeedData:
        """What happened, or NEED_DATA. Raises ProtocolError."""
        while True:
            if self._transaction is not None and not self._out and not self._waiting and not self._wants_body:
                ended = self._next_step(self._transaction)
                return NEED_DATA if ended is None else ended
            reply = self._replies.take()
            if reply is NEED_DATA:
                return NEED_DATA
            if not self._waiting:
                raise ProtocolError(f"a reply that answers nothing: {reply}", fatal=True)
            event = self._apply(self._waiting.popleft(), reply)
            if event is not None:
                return event

    def _next_step(self, transaction: Transaction) -> Finished | None:
        # Only without PIPELINING: all commands so far are answered and DATA was not yet asked for.
        if self._mail is not None and self._mail.ok and any(r.ok for r in self._rcpt):
            self._queue(Stage.DATA, "DATA")
            return None
        return self._finish(None)

    def _apply(self, stage: Stage, reply: Reply) -> ClientEvent | None:
        if reply.code == 421:
            self.closing = True
        match stage:
            case Stage.MAIL:
                self._mail = reply
                if not reply.ok and "PIPELINING" not in self.extensions:
                    self._out.clear()
            case Stage.RCPT:
                self._rcpt.append(reply)
            case Stage.DATA:
                return self._data_answered(reply)
            case Stage.FINAL:
                return self._finish(reply)
            case _:
                return self._answered(stage, reply)
        return self._finish(reply) if self.closing else None

    def _answered(self, stage: Stage, reply: Reply) -> Answered:
        if stage is Stage.GREETING:
            self.greeted = True
        elif stage is Stage.HELLO and reply.ok:
            self.extensions = extensions_of(reply)
        return Answered(stage, reply)

    def _data_answered(self, reply: Reply) -> ClientEvent:
        if reply.code != 354:
            self.closing |= reply.ok  # a 250 to DATA: whatever follows cannot be told apart
            return self._finish(None if reply.ok else reply)
        self._wants_body = True
        # A server that takes DATA after it refused everybody gets an empty message (RFC 2920 §3.1).
        self._useless_data = not (self._mail and self._mail.ok and any(r.ok for r in self._rcpt))
        return GoAhead()

    @property
    def wants_only_the_dot(self) -> bool:
        """After GoAhead: every recipient was refused, so write nothing but ``.`` CRLF."""
        return self._useless_data

    def _finish(self, final: Reply | None) -> Finished:
        transaction = self._transaction
        if transaction is None:
            raise ProtocolError("a reply outside any transaction", fatal=True)
        self._transaction = None
        self._out.clear()
        mail, rcpt = self._mail, self._rcpt
        if mail is None or not mail.ok:
            refused = mail or final or _UNCLEAR
            return Finished((refused,) * len(transaction.recipients))
        last = _UNCLEAR if final is None or (final.ok and final.code >= 300) else final
        answers = [r if not r.ok else last for r in rcpt]
        answers += [last if not last.ok else _UNCLEAR] * (len(transaction.recipients) - len(answers))
        return Finished(tuple(answers))

    # -- commands ---------------------------------------------------------------------------------------------

    def _queue(self, stage: Stage, line: str) -> None:
        if "\r" in line or "\n" in line:
            raise ValueError("a command cannot hold a line break")
        self._out.append((stage, line.encode() + b"\r\n"))

    def _mail_line(self, transaction: Transaction) -> str:
        envelope = transaction.envelope
        parts = [f"MAIL FROM:<{envelope.reverse_path}>"]
        if "SIZE" in self.extensions:
            parts.append(f"SIZE={transaction.size}")
        if envelope.body_8bit and "8BITMIME" in self.extensions:
            parts.append("BODY=8BITMIME")
        if envelope.smtputf8 and "SMTPUTF8" in self.extensions:
            parts.append("SMTPUTF8")
        if envelope.require_tls and "REQUIRETLS" in self.extensions:
            parts.append("REQUIRETLS")
        if "DSN" in self.extensions:
            parts += [f"RET={envelope.ret}"] if envelope.ret else []
            parts += [f"ENVID={envelope.envid}"] if envelope.envid else []
        return " ".join(parts)

    def _rcpt_line(self, recipient: Recipient) -> str:
        parts = [f"RCPT TO:<{recipient.address}>"]
        if "DSN" in self.extensions:
            parts += [f"NOTIFY={','.join(sorted(recipient.notify))}"] if recipient.notify else []
            parts += [f"ORCPT={recipient.orcpt}"] if recipient.orcpt else []
        return " ".join(parts)
