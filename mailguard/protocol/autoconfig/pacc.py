"""PACC, the JSON document of draft-ietf-mailmaint-pacc, whose digest stands in the DNS."""

from __future__ import annotations

import base64
import hashlib
import json

from mailguard.protocol.autoconfig.request import Provider, Security

CONTENT_TYPE = "application/json"
_DEFAULT_PORT = {"imap": 993, "pop3": 995, "smtp": 465}


def configuration(provider: Provider) -> bytes:
    """The document of one domain: only services on the default ports of implicit TLS can be named in it.

    The octets are what the digest in the DNS covers: never serialise them again on the way out.
    """
    protocols = {
        service.protocol: {"host": provider.hostname}
        for service in (*provider.incoming, *provider.outgoing)
        if service.security is Security.IMPLICIT and service.port == _DEFAULT_PORT[service.protocol]
    }
    document = {
        "protocols": protocols,
        "authentication": {"password": True},
        "info": {
            "provider": {"name": provider.name, "shortName": provider.name[:20].strip()},
            "help": {"documentation": f"{provider.web}/help/{provider.domain}"},
        },
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def digest_record(body: bytes) -> str:
    """The TXT record for ``_ua-auto-config``."""
    return f"v=UAAC1; a=sha256; d={base64.b64encode(hashlib.sha256(body).digest()).decode()}"
