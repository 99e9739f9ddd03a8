"""Signing in, the same for every protocol: runs SASL exchanges, checks passwords, holds refusals back.

Each protocol frames the octets in its own way and words the outcome as its RFC does; what happens in between,
and who is counted and banned for what, is here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from mailguard.auth.accounts import Account
from mailguard.auth.authenticator import Authenticator, AuthError
from mailguard.net.stream import Stream
from mailguard.net.tls import TlsContexts
from mailguard.protocol import sasl


@dataclass(frozen=True, slots=True)
class Granted:
    """Signed in as this account."""

    account: Account


@dataclass(frozen=True, slots=True)
class Refused:
    """Not signed in; ``text`` is fit for the client.

    ``temporary``: not its fault, it may try again (454, ``UNAVAILABLE``, ``SYS/TEMP``). ``malformed``: its octets
    broke the mechanism's rules, no password was checked. ``unknown``: no such mechanism on offer here.
    """

    text: str
    temporary: bool = False
    malformed: bool = False
    unknown: bool = False


Outcome = sasl.Challenge | Granted | Refused


def channel_binding(stream: Stream, tls: TlsContexts | None) -> tuple[str, bytes] | None:
    """What SCRAM-SHA-256-PLUS can bind to on this connection: the certificate that its client was shown."""
    if stream.tls is None or tls is None:
        return None
    return sasl.channel_binding(tls.certificate_for(stream.tls.sni).der)


class SaslSignIn:
    """The sign-ins of one connection, one exchange at a time.

    ``protocol`` is what events and app passwords call it: ``smtp``, ``imap``, ``pop3``. ``cleartext`` allows
    passwords outside TLS. ``pause`` is how a refusal is held back.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        stream: Stream,
        *,
        protocol: str,
        peer_ip: str,
        tls: TlsContexts | None,
        cleartext: bool = False,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._authenticator = authenticator
        self._stream = stream
        self._protocol = protocol
        self._peer_ip = peer_ip
        self._tls = tls
        self._cleartext = cleartext
        self._pause = pause
        self._exchange: sasl.Exchange | None = None

    def mechanisms(self) -> tuple[str, ...]:
        """The names to advertise now, best first; to be asked again after STARTTLS."""
        binding = channel_binding(self._stream, self._tls)
        return sasl.mechanisms(tls=self._stream.tls is not None or self._cleartext, binding=binding is not None)

    def begin(self, mechanism: str, initial: bytes | None) -> Outcome:
        """Starts an exchange; ``initial`` is the decoded initial response, None without one."""
        self._exchange = None
        if mechanism.upper() in self.mechanisms():
            self._exchange = sasl.begin(
                mechanism,
                scram_keys=self._authenticator.scram_credentials,
                binding=channel_binding(self._stream, self._tls),
            )
        return self.respond(initial)

    def respond(self, response: bytes | None) -> Outcome:
        """Goes on with the client's decoded response."""
        if self._exchange is None:
            return Refused("that mechanism is not offered here", unknown=True)
        try:
            step = self._exchange.step(response)
        except sasl.SaslError as error:
            self._exchange = None
            if error.wrong_proof:
                return self._scram_result(error.user, ok=False)
            return Refused(error.text, malformed=True)
        except AuthError as error:
            self._exchange = None
            return self._refused(error)
        if isinstance(step, sasl.Challenge):
            return step
        self._exchange = None
        if isinstance(step, sasl.PasswordCheck):
            return self.password(step.user, step.password)
        return self._scram_result(step.user, ok=True)

    def cancel(self) -> None:
        """The client gave up."""
        self._exchange = None

    def password(self, user: str, password: str) -> Granted | Refused:
        """Checks a plain password, as IMAP's LOGIN and POP3's USER and PASS bring it."""
        return self._outcome(
            lambda: self._authenticator.password(user, password, protocol=self._protocol, peer_ip=self._peer_ip)
        )

    def _scram_result(self, user: str, *, ok: bool) -> Granted | Refused:
        return self._outcome(
            lambda: self._authenticator.scram_result(user, ok, protocol=self._protocol, peer_ip=self._peer_ip)
        )

    def _outcome(self, attempt: Callable[[], Account]) -> Granted | Refused:
        try:
            return Granted(attempt())
        except AuthError as error:
            return self._refused(error)

    def _refused(self, error: AuthError) -> Refused:
        if error.delay:
            self._pause(error.delay)
        return Refused(error.reason, temporary=error.temporary)
