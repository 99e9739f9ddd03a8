"""Certificates and TLS contexts, one certificate for each name asked for, reloaded without a restart."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from mailguard.net.settings import TlsSettings


class TlsError(Exception):
    """A certificate or key cannot be used; the text names file and cure."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate file says: its DER form, the names it is for, its time, whether it vouches for itself."""

    path: Path
    der: bytes
    names: frozenset[str]
    not_before: datetime.datetime
    not_after: datetime.datetime
    self_signed: bool


@dataclass(frozen=True, slots=True)
class _Loaded:
    default: ssl.SSLContext
    contexts: Mapping[str, ssl.SSLContext]
    certificate: Certificate
    certificates: Mapping[str, Certificate]


class TlsContexts:
    """The server's certificates. ``reload`` swaps all of them at once; running connections keep theirs."""

    def __init__(self, settings: TlsSettings, base: Path, *, issued: Path | None = None) -> None:
        """Raises TlsError. ``base`` is what the paths are relative to.

        ``issued`` is a file of certificate and key that a CA gave us, or will: once it is there, and good, it takes
        the place of ``certificate`` and ``key``. ``issued_problem`` says what is wrong with it.
        """
        self._settings = settings
        self._base = base
        self._issued = issued
        self.issued_problem = ""
        self._seen: tuple[int, ...] = ()
        self._loaded = self._load()

    def server_context(self) -> ssl.SSLContext:
        """The context to shake hands with; it picks the certificate by the name the client asks for."""
        return self._loaded.default

    def certificate_for(self, sni: str) -> Certificate:
        """The certificate shown to a client that asks for this name."""
        return _match(self._loaded.certificates, sni) or self._loaded.certificate

    def certificates(self) -> tuple[Certificate, ...]:
        """All of them, the default one first."""
        return (self._loaded.certificate, *dict.fromkeys(self._loaded.certificates.values()))

    def files_for(self, name: str) -> tuple[Path, Path]:
        """The PEM files of certificate and key that are shown to a client that asks for this name."""
        own, *others = self._files()
        _, certificate, key = next((entry for entry in others if name.lower() in entry[0]), own)
        return certificate, key

    def reload(self) -> None:
        """Reads the files again. Raises TlsError, and the old ones stay."""
        fresh = self._load()
        if self.issued_problem and self._loaded.certificate.path == self._issued:
            raise TlsError(self.issued_problem)  # the one in memory is better than a self-signed one
        self._loaded = fresh

    def changed(self) -> bool:
        """Whether a file has changed since it was read, well or in vain."""
        return self._stamp() != self._seen

    def _files(self) -> list[tuple[tuple[str, ...], Path, Path]]:
        own = ((), *self._own())
        return [own, *((d.names, self._base / d.certificate, self._base / d.key) for d in self._settings.domain)]

    def _own(self) -> tuple[Path, Path]:
        """The files of the default certificate."""
        self.issued_problem = ""
        if self._issued is not None and self._issued.exists():
            try:
                _context(self._issued, self._issued, self._settings.minimum)
                return self._issued, self._issued
            except TlsError as error:
                self.issued_problem = str(error)
        return self._base / self._settings.certificate, self._base / self._settings.key

    def _stamp(self) -> tuple[int, ...]:
        named = [(self._settings.certificate, self._settings.key)]
        named += [(d.certificate, d.key) for d in self._settings.domain]
        paths = [self._base / path for pair in named for path in pair] + ([self._issued] if self._issued else [])
        # That of the inode, not of the content: a file that is made readable counts, too.
        return tuple(path.stat().st_ctime_ns if path.exists() else 0 for path in paths)

    def _load(self) -> _Loaded:
        self._seen = self._stamp()
        contexts: dict[str, ssl.SSLContext] = {}
        certificates: dict[str, Certificate] = {}
        first: tuple[ssl.SSLContext, Certificate] | None = None
        for names, path, key in self._files():
            context, certificate = _context(path, key, self._settings.minimum), read_certificate(path)
            first = first or (context, certificate)
            for name in names:
                contexts[name.lower()] = context
                certificates[name.lower()] = certificate
        assert first is not None
        _choose_by_name(first[0], contexts)
        return _Loaded(first[0], contexts, first[1], certificates)


def client_context(*, ca_file: str = "", verify: bool = True) -> ssl.SSLContext:
    """A context for connections that we make, TLS 1.2 or better; without ``verify`` any certificate will do.

    ``ca_file`` replaces the system's authorities. Raises OSError, ssl.SSLError where they cannot be read.
    """
    if not verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context = ssl.create_default_context(cafile=ca_file or None)
        # Python 3.13 sets it: many an office's own authority makes certificates that miss an identifier of a key.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def read_certificate(path: Path) -> Certificate:
    """What a PEM certificate file says. Raises TlsError."""
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise TlsError(f"{path}: {error.strerror}; {_CURE}") from None
    except ValueError as error:
        raise TlsError(f"{path}: not a PEM certificate: {error}") from None
    from cryptography.hazmat.primitives.serialization import Encoding

    der = found.public_bytes(Encoding.DER)
    begin, end = found.not_valid_before_utc, found.not_valid_after_utc
    return Certificate(path, der, _names(found), begin, end, found.issuer == found.subject)


def covers(certificate: Certificate, name: str) -> bool:
    """Whether a certificate is for a host name; ``*`` stands for one label (RFC 6125 §6.4.3)."""
    return name.lower() in certificate.names or "*." + name.lower().partition(".")[2] in certificate.names


def key_digest(certificate: Certificate) -> str:
    """The SHA-256 of the public key in hex, as in TLSA records ``3 1 1`` (RFC 6698)."""
    return _digest(x509.load_der_x509_certificate(certificate.der).public_key())


def private_key_digest(pem: bytes) -> str:
    """The same of a private key that no certificate has yet."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    return _digest(load_pem_private_key(pem, None).public_key())


def _digest(key: Any) -> str:
    import hashlib

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


_CURE = "`mailguard init` makes a self-signed one, `[tls]` in mailguard.toml names another"


def _names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(name.lower() for name in names.get_values_for_type(x509.DNSName))


def _context(certificate: Path, key: Path, minimum: str) -> ssl.SSLContext:
    for path, what in ((certificate, "certificate"), (key, "private key")):
        try:
            octets = path.read_bytes()
        except PermissionError as error:
            raise TlsError(f"{path}: {error.strerror}; `chown` it to the user that the server runs as") from None
        except OSError as error:
            raise TlsError(f"{path}: {error.strerror}; {_CURE}") from None
        if what.upper().encode() + b"-----" not in octets:
            raise TlsError(f"{path}: holds no {what} in PEM form; {_CURE}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if minimum == "1.3" else ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error)
        text = "the key does not belong to the certificate" if "MISMATCH" in reason else f"cannot be used ({reason})"
        raise TlsError(f"{certificate} with {key}: {text}") from None
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted; mailguard needs one without a passphrase")


def _match(by_name: Mapping[str, Certificate], sni: str) -> Certificate | None:
    name = sni.lower()
    return by_name.get(name) or by_name.get("*." + name.partition(".")[2])


def _choose_by_name(default: ssl.SSLContext, contexts: Mapping[str, ssl.SSLContext]) -> None:
    def chosen(sock: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> None:
        if name:
            sock.requested_name = name.lower()  # type: ignore[union-attr]  # read by Stream.start_tls
            other = contexts.get(name.lower()) or contexts.get("*." + name.lower().partition(".")[2])
            if other is not None:
                sock.context = other

    default.sni_callback = chosen
