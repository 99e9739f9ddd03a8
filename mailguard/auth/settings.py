"""``[auth]`` of mailguard.toml: signing in."""

from __future__ import annotations

import ipaddress

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mailguard.model.duration import Duration, parse_duration


class AuthSettings(BaseModel):
    """``[auth]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow: tuple[str, ...] = Field(
        default=("127.0.0.0/8", "::1/128"), description="networks that are never banned, such as the office's own"
    )
    window: Duration = Field(default=parse_duration("1h"), description="how long a wrong password counts")
    account_failures: int = Field(
        default=10, ge=1, description="distinct wrong passwords for one account from one network before a ban"
    )
    network_failures: int = Field(
        default=30, ge=1, description="distinct wrong passwords from one network, for all accounts, before a ban"
    )
    ban: Duration = Field(default=parse_duration("1h"), description="how long a ban lasts")
    delay: float = Field(default=1.0, ge=0, le=10, description="seconds that a refusal of a password is held back")
    cache: Duration = Field(
        default=parse_duration("5m"), description="how long a verified sign-in is remembered in memory; 0: never"
    )

    @field_validator("allow")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(text, strict=False)) for text in value)
