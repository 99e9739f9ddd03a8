"""DANE for SMTP: certificates pinned in signed DNS (RFC 6698, RFC 7671, RFC 7672)."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailguard.net.resolver import DnsTemporaryError, Resolver

_DIGESTS = {1: hashlib.sha256, 2: hashlib.sha512}


@dataclass(frozen=True, slots=True)
class Tlsa:
    """One usable record: usage 2 (trust anchor) or 3 (end entity), selector 0 or 1, matching 0, 1 or 2."""

    usage: int
    selector: int
    matching: int
    data: bytes

    def matches(self, certificate: x509.Certificate) -> bool:
        """Whether this certificate is the one meant."""
        octets = (
            certificate.public_bytes(Encoding.DER)
            if self.selector == 0
            else certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )
        digest = _DIGESTS.get(self.matching)
        return (digest(octets).digest() if digest else octets) == self.data


@dataclass(frozen=True, slots=True)
class TlsaSet:
    """What DNS says of one host: ``exists`` with no usable ``records`` asks for TLS that nobody can check."""

    exists: bool
    records: tuple[Tlsa, ...] = ()


def find_tlsa(resolver: Resolver, host: str, port: int) -> TlsaSet:
    """The TLSA records of a host whose addresses are authentic (RFC 7672 §2.2). Raises DnsTemporaryError.

    A bogus answer is a SERVFAIL of the validating resolver, so it raises too: the host must be avoided.
    """
    answer = resolver.query(f"_{port}._tcp.{host}", "TLSA")
    if not answer.records or not answer.authentic:
        return TlsaSet(False)
    usable = tuple(tlsa for record in answer.records if (tlsa := _parse(record)))
    return TlsaSet(True, usable)


def addresses_authentic(resolver: Resolver, host: str) -> bool:
    """Whether every address record of the host that exists was validated. Raises DnsTemporaryError."""
    answers = [a for a in (resolver.query(host, "A"), resolver.query(host, "AAAA")) if a.records]
    return bool(answers) and all(a.authentic for a in answers)


def _parse(record: str) -> Tlsa | None:
    try:
        usage, selector, matching, *data = record.split()
        tlsa = Tlsa(int(usage), int(selector), int(matching), bytes.fromhex("".join(data)))
    except ValueError:
        return None
    length = {1: 32, 2: 64}.get(tlsa.matching, len(tlsa.data))
    # Usages 0 and 1 mean public certificate authorities, which SMTP has no list of (RFC 7672 §3.1.3).
    fits = tlsa.usage in (2, 3) and tlsa.selector in (0, 1) and tlsa.matching in (0, 1, 2)
    return tlsa if fits and tlsa.data and len(tlsa.data) == length else None


def verify(chain: Sequence[bytes], records: Sequence[Tlsa], names: Sequence[str], now: datetime.datetime) -> str:
    """Why the server's DER chain does not fit the records, ``""`` if it does.

    Usage 3 looks at the server's certificate alone and ignores its names and dates; usage 2 wants a chain of
    signatures and dates up to the pinned certificate, which the server must send, and one of ``names``
    in the server's certificate (RFC 7672 §3.1.1, §3.1.2).
    """
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in chain]
        if not certificates:
            return "the server sent no certificate"
        if any(r.usage == 3 and r.matches(certificates[0]) for r in records):
            return ""
        anchors = [r for r in records if r.usage == 2]
        path = _path_to_anchor(certificates, anchors)
    except (ValueError, TypeError) as error:
        return f"the server's certificate cannot be read: {error}"
    if path is None:
        return "no TLSA record matches the server's certificate"
    if not all(c.not_valid_before_utc <= now <= c.not_valid_after_utc for c in path):
        return "a certificate on the way to the pinned one has expired"
    if not any(_name_fits(certificates[0], name) for name in names):
        return f"the server's certificate is not for {names[0]}"
    return ""


def _path_to_anchor(certificates: list[x509.Certificate], anchors: list[Tlsa]) -> list[x509.Certificate] | None:
    path = [certificates[0]]
    rest = certificates[1:]
    while anchors:
        if any(anchor.matches(path[-1]) for anchor in anchors) and len(path) > 1:
            return path
        issuer = next((c for c in rest if c.subject == path[-1].issuer and _issued(path[-1], c)), None)
        if issuer is None:
            return None
        rest.remove(issuer)
        path.append(issuer)
    return None


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        if not issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, InvalidSignature, ValueError, TypeError):
        return False
    return True


def _name_fits(certificate: x509.Certificate, name: str) -> bool:
    try:
        alternative = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    return any(matches_name(pattern, name) for pattern in alternative.get_values_for_type(x509.DNSName))


def matches_name(pattern: str, name: str) -> bool:
    """Whether a certificate's or policy's name, ``*.`` for exactly one left label, covers a host."""
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:] and not name.startswith(".")
    return pattern == name


def try_tlsa(resolver: Resolver, host: str, port: int) -> TlsaSet:
    """``find_tlsa`` for a host where DNS says that its addresses are authentic, else nothing."""
    try:
        if not addresses_authentic(resolver, host):
            return TlsaSet(False)
    except DnsTemporaryError:
        return TlsaSet(False)
    return find_tlsa(resolver, host, port)
