"""``[relay]`` and ``[queue]`` of mailguard.toml."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

TlsLevel = Literal["none", "may", "encrypt", "verify"]

_TLS = (
    "`none`: never; `may`: when offered; `encrypt`: always, certificate unchecked; `verify`: always, checked. "
    "MTA-STS and DANE of the other side only ever raise `may`"
)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DestinationSettings(_Model):
    """``[relay.destination."DOMAIN"]``: how mail for one domain goes out."""

    host: str = Field(default="", description="deliver to this host or address instead of the domain's MX")
    port: int | None = Field(default=None, ge=1, le=65535, description="port at that host or at the domain's MX")
    tls: TlsLevel | None = Field(default=None, description=_TLS)
    concurrency: int | None = Field(default=None, ge=1, le=100, description="connections at a time")
    rate: float | None = Field(default=None, gt=0, description="messages per minute, at most")
    give_up: float | None = Field(default=None, gt=0, description="seconds after which mail bounces")
    delay_notice: float | None = Field(default=None, gt=0, description="seconds after which the sender is told")


class RouteSettings(_Model):
    """``[[relay.route]]``: mail that goes through a smarthost; the first that fits decides."""

    sender: str = Field(default="*", description="domain of the sender, `*` for any, `.d` for every subdomain of d")
    recipient: str = Field(default="*", description="domain of the recipient, written the same way")
    host: str = Field(default="", description="the smarthost; empty: deliver to the MX after all")
    port: int = Field(default=587, ge=1, le=65535, description="its port; 465 speaks TLS from the first octet")
    tls: TlsLevel = Field(default="verify", description=_TLS)
    user: str = Field(default="", description="sign in there as this user")
    password: SecretStr = Field(default=SecretStr(""), description="with this password")


class FallbackSettings(_Model):
    """``[relay.fallback]``: a host to hand mail to when no MX can be reached."""

    host: str = Field(default="", description="the host; empty: none")
    port: int = Field(default=25, ge=1, le=65535, description="its port")
    tls: TlsLevel = Field(default="may", description=_TLS)
    user: str = Field(default="", description="sign in there as this user")
    password: SecretStr = Field(default=SecretStr(""), description="with this password")


class TimeoutSettings(_Model):
    """``[relay.timeout]``: seconds to wait for the next hop, by stage (RFC 5321 §4.5.3.2)."""

    connect: float = Field(default=30, gt=0, description="for a connection")
    greeting: float = Field(default=300, gt=0, description="for the 220")
    hello: float = Field(default=300, gt=0, description="for the answer to EHLO, STARTTLS and AUTH")
    tls: float = Field(default=60, gt=0, description="for the TLS handshake")
    mail: float = Field(default=300, gt=0, description="for the answer to MAIL")
    rcpt: float = Field(default=300, gt=0, description="for the answer to RCPT")
    data: float = Field(default=120, gt=0, description="for the 354")
    block: float = Field(default=180, gt=0, description="for the next hop to take more of the message")
    final: float = Field(default=600, gt=0, description="for the answer to the final dot")
    https: float = Field(default=60, gt=0, description="for an MTA-STS policy in all")
    message: float = Field(default=1500, gt=0, description="for one message in all")


class RelaySettings(_Model):
    """``[relay]`` of mailguard.toml."""

    port: int = Field(default=25, ge=1, le=65535, description="port of other domains' MX")
    hello: str = Field(default="", description="name to say in EHLO; empty: `hostname`")
    tls: TlsLevel = Field(default="may", description=_TLS)
    mta_sts: bool = Field(default=True, description="fetch and obey MTA-STS policies (RFC 8461)")
    mta_sts_port: int = Field(default=443, ge=1, le=65535, description="port of their web servers")
    dane: bool = Field(default=True, description="obey TLSA records, if `[dns] validating` is set (RFC 7672)")
    ca_file: str = Field(default="", description="certificate authorities to trust; empty: those of the system")
    srs: bool = Field(default=True, description="mail that aliases send on leaves with a reverse path of ours (SRS)")
    ipv6: bool = Field(default=True, description="use IPv6 addresses of next hops")
    source: dict[str, tuple[str, ...]] = Field(
        default={}, description="our addresses to connect from, by sender's domain; `*` for all others"
    )
    destination: dict[str, DestinationSettings] = Field(default={}, description="exceptions by recipient's domain")
    route: tuple[RouteSettings, ...] = Field(default=(), description="smarthosts")
    fallback: FallbackSettings = Field(default=FallbackSettings(), description="last resort after the MX hosts")
    timeout: TimeoutSettings = Field(default=TimeoutSettings(), description="waits")


class QueueSettings(_Model):
    """``[queue]`` of mailguard.toml."""

    first_retry: float = Field(default=60, gt=0, description="seconds from the first failure to the second attempt")
    longest_retry: float = Field(default=14_400, gt=0, description="seconds between attempts at the most")
    growth: float = Field(default=2.0, ge=1, le=10, description="each wait is so many times the one before")
    jitter: float = Field(default=0.1, ge=0, le=0.5, description="share by which a wait may vary either way")
    delay_notice: float = Field(default=14_400, ge=0, description="seconds after which the sender is told of a delay")
    give_up: float = Field(default=432_000, gt=0, description="seconds after which mail bounces (5 days)")
    threads: int = Field(default=20, ge=1, le=200, description="deliveries at a time, all destinations together")
    concurrency: int = Field(default=10, ge=1, le=100, description="connections to one destination at a time")
    first_concurrency: int = Field(default=2, ge=1, le=100, description="of these, how many to begin with")
    rate: float = Field(default=0, ge=0, description="messages per minute to one destination; 0: no limit")
    batch: int = Field(default=50, ge=1, le=500, description="recipients claimed at a time")
    messages_per_connection: int = Field(default=100, ge=1, description="then the connection is closed")
    keep_connection: float = Field(default=3, ge=0, description="seconds an idle connection is kept for more mail")
    lease: float = Field(default=3600, ge=600, description="seconds after which a dead runner's claims are free")
    sender_cap: int = Field(
        default=0, ge=0, description="recipients one sender may mail per hour; what is over is held; 0: no cap"
    )
    bounce_full_up_to: int = Field(
        default=50_000, ge=0, description="octets up to which a bounce returns the whole message"
    )
