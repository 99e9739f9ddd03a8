"""SASL exchanges, server side (RFC 4422): PLAIN, LOGIN, SCRAM-SHA-256 and SCRAM-SHA-256-PLUS.

Every protocol carries them in its own framing, mostly base64 lines; here are only the octets inside. An
exchange takes the client's responses one by one and answers each with a Challenge, a PasswordCheck or a Proven.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from cryptography import x509

MAX_FIELD = 255  # octets in one field of PLAIN, RFC 4616 §2


class SaslError(Exception):
    """The exchange failed; ``text`` is fit for the client.

    ``wrong_proof`` means that the password behind a SCRAM proof was wrong: ``user`` is whose sign-in failed.
    """

    def __init__(self, text: str, *, user: str = "", wrong_proof: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.user = user
        self.wrong_proof = wrong_proof


@dataclass(frozen=True, slots=True)
class Challenge:
    """Octets to send to the client, who answers with a response."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PasswordCheck:
    """The end of PLAIN and LOGIN: the caller checks the password."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Proven:
    """The end of SCRAM: the client has proven that it knows the password of ``user``."""

    user: str


Step = Challenge | PasswordCheck | Proven


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What a server keeps for SCRAM-SHA-256 instead of the password (RFC 5802 §3)."""

    salt: bytes = field(repr=False)
    stored_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)
    iterations: int


class Exchange(Protocol):
    """One running exchange."""

    def step(self, response: bytes | None) -> Step:
        """Takes the client's response, None where it sent no initial one. Raises SaslError."""


def mechanisms(*, tls: bool, binding: bool) -> tuple[str, ...]:
    """The names to advertise, best first; nothing outside TLS. ``binding``: the certificate can be bound to."""
    if not tls:
        return ()
    return (("SCRAM-SHA-256-PLUS",) if binding else ()) + ("SCRAM-SHA-256", "PLAIN", "LOGIN")


def begin(
    mechanism: str, *, scram_keys: Callable[[str], ScramKeys], binding: tuple[str, bytes] | None = None
) -> Exchange | None:
    """A new exchange, None for a mechanism that is unknown or not on offer.

    ``scram_keys`` finds the keys of a user and invents stable ones for a user who does not exist;
    ``binding`` is the channel binding of this connection's TLS.
    """
    name = mechanism.upper()
    if name == "PLAIN":
        return Plain()
    if name == "LOGIN":
        return Login()
    if name == "SCRAM-SHA-256" or (name == "SCRAM-SHA-256-PLUS" and binding is not None):
        return Scram(name, scram_keys, binding)
    return None


def channel_binding(certificate: bytes) -> tuple[str, bytes] | None:
    """``tls-server-end-point`` for our DER certificate, None where its signature has no hash (RFC 5929 §4.1)."""
    algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    if algorithm is None:
        return None
    name = "sha256" if algorithm.name in ("md5", "sha1") else algorithm.name
    return "tls-server-end-point", hashlib.new(name, certificate).digest()


class Plain:
    """RFC 4616: authorization identity, authentication identity and password in one response."""

    def step(self, response: bytes | None) -> Step:
        """Raises SaslError for a malformed response or a foreign authorization identity."""
        if response is None:
            return Challenge(b"")
        parts = response.split(b"\0")
        if len(parts) != 3 or any(len(part) > MAX_FIELD for part in parts):
            raise SaslError("PLAIN needs three fields of up to 255 octets")
        authzid, user, password = (_text(part) for part in parts)
        if authzid and authzid != user:
            raise SaslError("acting for another user is not offered")
        return _password_check(user, password)


class Login:
    """The obsolete LOGIN mechanism, which some clients still insist on: the name, then the password."""

    def __init__(self) -> None:
        self._user: str | None = None

    def step(self, response: bytes | None) -> Step:
        """Raises SaslError for a malformed response."""
        if response is None:
            return Challenge(b"Username:")
        if len(response) > MAX_FIELD or b"\0" in response:
            raise SaslError("LOGIN needs fields of up to 255 octets without NUL")
        if self._user is None:
            self._user = _text(response)
            return Challenge(b"Password:")
        return _password_check(self._user, _text(response))


class _NamedHeader:
    """A GS2 header with an authorization identity, where scramp keeps its own (RFC 5802 §5.1, §7)."""

    def __init__(self, header: bytes) -> None:
        self._header = header

    def make_cbind_input(self, binding: Any) -> bytes:
        """What the client's ``c=`` must be."""
        return self._header + (bytes(binding.data) if self._header.startswith(b"p=") else b"")


class Scram:
    """RFC 5802 and RFC 7677: the client proves its password, and we prove that we know it, too."""

    def __init__(self, name: str, scram_keys: Callable[[str], ScramKeys], binding: tuple[str, bytes] | None) -> None:
        import scramp  # 3 MB that a worker does without until a client asks for SCRAM

        self._failure = scramp.ScramException
        self._plus = name.endswith("-PLUS")
        self._scram_keys = scram_keys
        self._user = ""
        self._server = scramp.ScramMechanism(name).make_server(self._lookup, channel_binding=binding)
        self._turn = self._first

    def step(self, response: bytes | None) -> Step:
        """Raises SaslError for a malformed response, a broken binding or a wrong proof."""
        if response is None:
            return Challenge(b"")
        try:
            return self._turn(response.decode())
        except UnicodeDecodeError:
            raise SaslError("the response is not UTF-8") from None

    def _lookup(self, user: str) -> tuple[bytes, bytes, bytes, int]:
        self._user = user
        keys = self._scram_keys(user)
        return keys.salt, keys.stored_key, keys.server_key, keys.iterations

    def _first(self, response: str) -> Step:
        if response.startswith("p=") and not self._plus:
            raise SaslError("channel binding needs the mechanism SCRAM-SHA-256-PLUS")
        flag, authzid, rest = [*response.split(",", 2), "", ""][:3]
        try:
            self._server.set_client_first(f"{flag},,{rest}")
            answer = self._server.get_server_first()
        except self._failure as error:
            if isinstance(error.__cause__, Exception) and not isinstance(error.__cause__, (ValueError, self._failure)):
                raise error.__cause__ from None  # the look-up failed, which is not the client's fault
            raise SaslError(_reason(error)) from None
        if authzid:
            # Cyrus SASL names the user here, too; scramp wants nothing there but would take the header's octets.
            if authzid.removeprefix("a=").replace("=2C", ",").replace("=3D", "=") != self._user:
                raise SaslError("acting for another user is not offered")
            self._server.gs2_header = _NamedHeader(f"{flag},{authzid},".encode())
        self._turn = self._final
        return Challenge(answer.encode())

    def _final(self, response: str) -> Step:
        try:
            self._server.set_client_final(response)
            answer = self._server.get_server_final()
        except self._failure as error:
            wrong = "invalid-proof" in str(error) or "proof" in str(error).lower()
            raise SaslError(_reason(error), user=self._user, wrong_proof=wrong) from None
        self._turn = self._end
        return Challenge(answer.encode())

    def _end(self, response: str) -> Step:
        if response:
            raise SaslError("the last response must be empty")
        return Proven(self._user)


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise SaslError("the credentials are not UTF-8") from None


def _password_check(user: str, password: str) -> PasswordCheck:
    if not user or not password:
        raise SaslError("name or password is missing")
    return PasswordCheck(user, password)


def _reason(error: Exception) -> str:
    return str(error.args[0] if error.args else "SCRAM failed").rstrip(".")
