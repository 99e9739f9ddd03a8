"""``[web]`` of mailguard.toml: the set-up pages and the account page."""

from __future__ import annotations

import ipaddress
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mailguard.delivery.forward_settings import Allowed


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
