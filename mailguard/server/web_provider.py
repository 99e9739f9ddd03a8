"""What the set-up pages are made of: the providers of all our domains, and what is asked of other servers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from mailguard.auth.accounts import Directory
from mailguard.net.listening import ListenerSettings
from mailguard.protocol.autoconfig.request import Provider, Security, Service
from mailguard.server.web_settings import WebSettings

_SERVICES = {
    "imaps": ("imap", Security.IMPLICIT),
    "imap": ("imap", Security.STARTTLS),
    "pop3s": ("pop3", Security.IMPLICIT),
    "pop3": ("pop3", Security.STARTTLS),
    "submissions": ("smtp", Security.IMPLICIT),
    "submission": ("smtp", Security.STARTTLS),
}


def providers(
    hostname: str, listeners: Iterable[ListenerSettings], directory: Directory, settings: WebSettings
) -> Mapping[str, Provider]:
    """The provider of every domain of ours, alias domains included, by its name."""
    listeners = tuple(listeners)
    services = tuple(
        Service(*_named(listener)) for listener in listeners
        if listener.kind in _SERVICES and not listener.address.startswith("/")
    )  # fmt: skip
    web = f"https://{hostname}{_https_port(listeners)}"
    return {
        domain: Provider(domain, hostname, settings.name or f"Mail of {domain}", services, web)
        for domain in directory.domains
    }


def mta_sts_policy(settings: WebSettings, hostname: str) -> bytes:
    """The octets of ``mta-sts.txt`` (RFC 8461 §3.2)."""
    lines = ("version: STSv1", f"mode: {settings.mta_sts}", f"mx: {hostname}", f"max_age: {settings.mta_sts_max_age}")
    return "".join(f"{line}\r\n" for line in lines).encode()


def mta_sts_id(settings: WebSettings, hostname: str) -> str:
    """The id for ``_mta-sts``, another one whenever the policy changes."""
    return hashlib.sha256(mta_sts_policy(settings, hostname)).hexdigest()[:20]


def _named(listener: ListenerSettings) -> tuple[str, int, Security]:
    protocol, security = _SERVICES[listener.kind]
    return protocol, listener.tcp_port, security


def _https_port(listeners: tuple[ListenerSettings, ...]) -> str:
    ports = [listener.tcp_port for listener in listeners if listener.kind == "https"]
    return "" if not ports or 443 in ports else f":{ports[0]}"
