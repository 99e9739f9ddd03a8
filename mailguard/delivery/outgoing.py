"""One connection to a next hop: greeting, EHLO, STARTTLS, AUTH, then message after message."""

from __future__ import annotations

import time
from collections.abc import Callable

from mailguard.delivery.nexthop import Hop
from mailguard.delivery.outgoing_tls import ClientContexts, TlsFailedError, shake_hands
from mailguard.delivery.relay_settings import TimeoutSettings
from mailguard.delivery.tlspolicy import TlsPolicy
from mailguard.model.message import Message
from mailguard.model.reply import PermanentError, Reply, TransientError, error_for
from mailguard.net.stream import Stream, StreamTimeoutError
from mailguard.protocol.smtp.client import Answered, ClientEvent, Finished, GoAhead, SmtpClient, Stage, Transaction
from mailguard.protocol.smtp.dotstuff import dot_stuffed
from mailguard.protocol.wire import NEED_DATA, ProtocolError


class ConnectionLostError(TransientError):
    """The connection broke, or what came over it was not SMTP."""


class Outgoing:
    """A connection to ``host``, the name to verify; ``peer`` adds its address. Not for two threads at once.

    ``in_doubt`` is set while a whole message has been sent whose fate is not known.
    """

    def __init__(
        self,
        stream: Stream,
        host: str,
        peer: str,
        *,
        timeouts: TimeoutSettings,
        contexts: ClientContexts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = host
        self.peer = peer
        self.usable = True
        self.in_doubt = False
        self.sent = 0
        self.idle_since = clock()
        self.tls_text = "none"
        self._stream = stream
        self._client = SmtpClient()
        self._timeouts = timeouts
        self._contexts = contexts
        self._clock = clock

    # -- getting ready ----------------------------------------------------------------------------------------

    def open(self, own_name: str, hop: Hop, policy: TlsPolicy) -> None:
        """Everything up to the first MAIL. Raises MailError; the connection is then closed."""
        try:
            if hop.implicit_tls:
                self._shake_hands(policy, hop)
            self._greet(own_name)
            if self._stream.tls is None and policy.level != "none":
                self._start_tls(own_name, policy, hop)
            if hop.user:
                self._sign_in(hop)
        except BaseException:
            self.close()
            raise

    def _greet(self, own_name: str) -> None:
        greeting = self._answer()
        if not greeting.ok:
            raise error_for(self._named(greeting))
        self._hello(own_name)

    def _hello(self, own_name: str) -> None:
        self._client.hello(own_name)
        reply = self._answer()
        if reply.permanent and not self._client.closing:
            self._client.hello(own_name, ehlo=False)
            reply = self._answer()
        if not reply.ok:
            raise error_for(self._named(reply))
        if reply.text.split(" ", 1)[0].lower() == own_name.lower():
            raise PermanentError(
                Reply.of(554, "5.4.6", f"mail loops: {self.peer} says that it is {own_name}, which we are")
            )

    def _start_tls(self, own_name: str, policy: TlsPolicy, hop: Hop) -> None:
        if not self._client.has("STARTTLS"):
            if policy.must:
                raise TlsFailedError(
                    f"{self.peer} does not offer TLS, which {policy} asks for", "starttls-not-supported"
                )
            return
        self._client.starttls()
        reply = self._answer()
        if not reply.ok:
            if policy.must or self._client.closing:
                raise TlsFailedError(f"{self.peer} refused STARTTLS: {reply}", "starttls-not-supported")
            return
        self._shake_hands(policy, hop)
        self._client.tls_started()
        self._hello(own_name)

    def _shake_hands(self, policy: TlsPolicy, hop: Hop) -> None:
        names = (self.host, hop.host) if hop.by_mx else (self.host,)
        self._stream.set_deadline(self._timeouts.tls)
        self.tls_text = shake_hands(self._stream, self.peer, names, policy, self._contexts)

    def _sign_in(self, hop: Hop) -> None:
        mechanisms = self._client.auth_mechanisms
        if self._stream.tls is None:
            raise TransientError(
                Reply.of(451, "4.7.11", f"{self.peer} wants a password, but there is no TLS to hide it")
            )
        if "PLAIN" in mechanisms or not mechanisms:
            self._client.auth_plain(hop.user, hop.password)
            reply = self._answer()
        elif "LOGIN" in mechanisms:
            self._client.auth_login()
            reply = self._answer()
            for text in (hop.user, hop.password):
                if reply.code == 334:
                    self._client.auth_line(text)
                    reply = self._answer()
        else:
            raise TransientError(Reply.of(451, "4.7.4", f"{self.peer} offers no way to sign in that we know"))
        if reply.code != 235:
            # Our own configuration is at fault, not the sender: wait for it to be mended.
            raise TransientError(Reply.of(451, "4.7.8", f"{self.peer} did not let us sign in as {hop.user}: {reply}"))

    # -- mail -------------------------------------------------------------------------------------------------

    @property
    def keeps_dsn(self) -> bool:
        """Whether the next hop takes over the duty to report (RFC 3461)."""
        return self._client.has("DSN")

    def objection(self, transaction: Transaction) -> Reply | None:
        """Why this message cannot go over this connection at all."""
        envelope = transaction.envelope
        limit = self._client.max_size
        if limit and transaction.size > limit:
            return Reply.of(
                552, "5.3.4", f"{self.host} takes messages of up to {limit} octets; this one has {transaction.size}"
            )
        if envelope.smtputf8 and not self._client.has("SMTPUTF8"):
            return Reply.of(550, "5.6.7", f"{self.host} cannot take addresses or header fields beyond ASCII (SMTPUTF8)")
        if envelope.body_8bit and not self._client.has("8BITMIME"):
            return Reply.of(554, "5.6.3", f"{self.host} takes only 7-bit mail, and this message is not")
        if envelope.require_tls and not self._client.has("REQUIRETLS"):
            return Reply.of(550, "5.7.30", f"{self.host} does not offer REQUIRETLS, which the sender asked for")
        return None

    def send(self, transaction: Transaction, message: Message) -> tuple[Reply, ...]:
        """One reply per recipient. Raises ConnectionLostError; ``usable`` says whether to go on."""
        if refused := self.objection(transaction):
            return (refused,) * len(transaction.recipients)
        self._client.begin(transaction)
        until = self._clock() + self._timeouts.message
        while True:
            event = self._event(until)
            if isinstance(event, Finished):
                self.in_doubt = False
                self.sent += 1
                self.idle_since = self._clock()
                self.usable = not self._client.closing
                return event.replies
            if isinstance(event, GoAhead):
                self._write_body(message, until)

    def _write_body(self, message: Message, until: float) -> None:
        self.in_doubt = True
        chunks = () if self._client.wants_only_the_dot else message.chunks()
        self._stream.timeout = self._timeouts.block
        self._stream.set_deadline(max(until - self._clock(), 0.001))
        try:
            blocks = list(dot_stuffed(chunks)) if len(message) < 1 << 20 else None
            for block in (b"".join(blocks),) if blocks is not None else dot_stuffed(chunks):
                self._stream.write(block)
        except (StreamTimeoutError, OSError) as error:
            raise self._lost(f"while the message was sent: {error}") from None
        self._client.body_sent()

    def close(self) -> None:
        """Says QUIT without waiting for the answer, and closes."""
        try:
            if self.usable and self._client.greeted:
                self._client.quit()
                self._stream.timeout = 1
                self._stream.write(self._client.data_to_send())
        except (OSError, ProtocolError):
            pass
        self.usable = False
        self._stream.close()

    # -- the pump ---------------------------------------------------------------------------------------------

    def _answer(self) -> Reply:
        event = self._event(self._clock() + self._timeouts.message)
        if not isinstance(event, Answered):
            raise self._lost("it answered out of turn")
        return event.reply

    def _event(self, until: float) -> ClientEvent:
        try:
            out = self._client.data_to_send()
            self._wait_for(self._client.stage, until)
            if out:
                self._stream.write(out)
            while (event := self._client.next_event()) is NEED_DATA:
                if out := self._client.data_to_send():
                    self._wait_for(self._client.stage, until)
                    self._stream.write(out)
                self._client.receive_data(self._stream.read(much=False))
            return event
        except StreamTimeoutError:
            raise self._lost(f"no answer to {self._client.stage.value} in time", "4.4.2") from None
        except (ProtocolError, OSError) as error:
            raise self._lost(f"at {self._client.stage.value}: {error}") from None

    def _wait_for(self, stage: Stage, until: float) -> None:
        # A deadline, not only a time-out per read: a peer that drips octets must not hold us for ever.
        seconds = getattr(self._timeouts, _TIMEOUTS[stage])
        self._stream.timeout = seconds
        self._stream.set_deadline(max(min(seconds, until - self._clock()), 0.001))

    def _lost(self, text: str, status: str = "4.4.2") -> ConnectionLostError:
        self.usable = False
        return ConnectionLostError(Reply.of(451, status, f"lost the connection to {self.peer}: {text}"))

    def _named(self, reply: Reply) -> Reply:
        return reply.with_text(f"{self.peer} said: {reply.text}")


_TIMEOUTS = {
    Stage.GREETING: "greeting",
    Stage.HELLO: "hello",
    Stage.STARTTLS: "hello",
    Stage.AUTH: "hello",
    Stage.MAIL: "mail",
    Stage.RCPT: "rcpt",
    Stage.DATA: "data",
    Stage.BODY: "block",
    Stage.FINAL: "final",
    Stage.RSET: "hello",
    Stage.QUIT: "hello",
}
