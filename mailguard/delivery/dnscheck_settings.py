"""``[dns_check]`` of mailguard.toml: looking after what we publish."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class DnsCheckSettings(BaseModel):
    """``[dns_check]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    addresses: tuple[str, ...] = Field(
        default=(), description="our public addresses, as others see them; empty: those of the host name"
    )
    daily: bool = Field(default=True, description="check every day, and tell postmaster what has changed")
    blocklists: tuple[str, ...] = Field(
        default=("zen.spamhaus.org", "bl.spamcop.net", "psbl.surriel.com"),
        description="DNS block lists on which our addresses must not stand",
    )
    reach: str = Field(
        default="gmail.com", description="a domain whose mail server shows whether we get out on port 25; empty: none"
    )
    port: int = Field(default=53, ge=0, le=65535, description="port of the domains' own name servers; 0: ask none")
