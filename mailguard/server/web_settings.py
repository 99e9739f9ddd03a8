"""What the set-up pages are made of: ``[web]`` of mailguard.toml, and the providers of all our domains."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mailguard.auth.accounts import Directory
from mailguard.delivery.forwarding import Allowed
from mailguard.net.listening import ListenerSettings
from mailguard.protocol.autoconfig.request import Provider, Security, Service

_SERVICES = {
    "imaps": ("imap", Security.IMPLICIT),
    "imap": ("imap", Security.STARTTLS),
    "pop3s": ("pop3", Security.IMPLICIT),
    "pop3": ("pop3", Security.STARTTLS),
    "submissions": ("smtp", Security.IMPLICIT),
    "submission": ("smtp", Security.STARTTLS),
}


class WebSettings(BaseModel):
    """``[web]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="", max_length=60, description="how clients call an account; empty: `Mail of DOMAIN`")
    mta_sts: Literal["none", "testing", "enforce"] = Field(
        default="testing", description="what mta-sts.txt asks of other servers; `none`: do without TLS if need be"
    )
    mta_sts_max_age: int = Field(default=604_800, ge=86_400, le=31_557_600, description="seconds it may be remembered")
    pacc: bool = Field(default=False, description="serve the PACC document of draft-ietf-mailmaint-pacc")
    contact: str = Field(default="", description="address in security.txt; empty: postmaster of the domain")
    metrics_token: str = Field(default="", description="bearer token for /metrics; empty: from this machine only")
    rate: int = Field(
        default=30, ge=1, description="requests a minute from one address (IPv6: one /64), shared out to the workers"
    )
    burst: int = Field(default=60, ge=1, description="requests at once before the rate counts")
    account: bool = Field(default=True, description="serve the account page, where people look after their mailbox")
    forward: Allowed = Field(
        default="anywhere", description="where people may forward their mail to: `anywhere`, `here` or `nowhere`"
    )
    forward_asks: bool = Field(
        default=True, description="before mail is forwarded to other servers, its recipient there must agree"
    )
    proxies: tuple[str, ...] = Field(
        default=(), description="networks of reverse proxies whose X-Forwarded-For and -Proto are believed"
    )
    threads: int = Field(default=8, ge=1, le=200, description="threads of each worker that answer requests")

    @field_validator("proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(text, strict=False)) for text in value)


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
