"""Apple's configuration profile for Mail on iOS and macOS, and its CMS signature (RFC 5652)."""

from __future__ import annotations

import plistlib
import uuid
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs7

from mailguard.protocol.autoconfig.request import Provider, RequestError, Security

CONTENT_TYPE = "application/x-apple-aspen-config"


def profile(provider: Provider, address: str, install_id: uuid.UUID, *, label: str = "") -> bytes:
    """The profile of one account; it holds no password, so the device asks for it.

    Identifiers are the same each time (``install_id`` tells two installations apart): a profile with another
    identifier would add a second account instead of replacing the first. Raises RequestError where no IMAP or
    submission is offered.
    """
    base = ".".join(reversed(provider.domain.split("."))) + ".mail." + uuid.uuid5(install_id, address).hex[:12]
    content = {
        "PayloadType": "com.apple.mail.managed",
        "PayloadVersion": 1,
        "PayloadIdentifier": f"{base}.account",
        "PayloadUUID": _uuid(install_id, provider.domain, address, "account"),
        "PayloadDisplayName": provider.name,
        "EmailAccountType": "EmailTypeIMAP",
        "EmailAccountName": label or address,
        "EmailAccountDescription": provider.name,
        "EmailAddress": address,
        "OutgoingPasswordSameAsIncomingPassword": True,
        **_server(provider, "Incoming", "imap", address),
        **_server(provider, "Outgoing", "smtp", address),
    }
    outer = {
        "PayloadType": "Configuration",
        "PayloadVersion": 1,
        "PayloadIdentifier": base,
        "PayloadUUID": _uuid(install_id, provider.domain, address, "profile"),
        "PayloadDisplayName": f"{provider.name}: {address}",
        "PayloadDescription": f"Sets up mail for {address}.",
        "PayloadOrganization": provider.name,
        "PayloadRemovalDisallowed": False,
        "PayloadContent": [content],
    }
    return plistlib.dumps(outer)


def _server(provider: Provider, way: str, protocol: str, address: str) -> dict[str, object]:
    for service in (*provider.incoming, *provider.outgoing):
        if service.protocol == protocol and service.security is Security.IMPLICIT:
            return {
                f"{way}MailServerHostName": provider.hostname,
                f"{way}MailServerPortNumber": service.port,
                f"{way}MailServerUseSSL": True,
                f"{way}MailServerUsername": address,
                f"{way}MailServerAuthentication": "EmailAuthPassword",
            }
    raise RequestError(f"no {protocol} with implicit TLS is offered")


def _uuid(install_id: uuid.UUID, *parts: str) -> str:
    return str(uuid.uuid5(install_id, "\0".join(parts))).upper()


def sign(content: bytes, chain_pem: bytes, key_pem: bytes) -> bytes:
    """The profile as DER SignedData with its content and the certificate chain attached.

    Raises ValueError for a chain or key that cannot be read or is neither RSA nor ECDSA.
    """
    chain: Sequence[x509.Certificate] = x509.load_pem_x509_certificates(chain_pem)
    key = serialization.load_pem_private_key(key_pem, None)
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        raise ValueError("a profile can be signed with an RSA or ECDSA key only")
    builder = pkcs7.PKCS7SignatureBuilder().set_data(content).add_signer(chain[0], key, hashes.SHA256())
    for certificate in chain[1:]:
        builder = builder.add_certificate(certificate)
    return builder.sign(serialization.Encoding.DER, [pkcs7.PKCS7Options.Binary])
