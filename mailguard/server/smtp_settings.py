"""``[smtp]`` of mailguard.toml: receiving mail."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mailguard.model.octets import Octets


class SmtpSettings(BaseModel):
    """``[smtp]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size_limit: Octets = Field(default=52_428_800, ge=65_536, description="octets of the largest message accepted")
    spool_over: Octets = Field(
        default=1_048_576, ge=65_536, description="octets of a message from which on it is kept on disk, not in memory"
    )
    line_limit: int = Field(
        default=65_536, ge=998, description="octets of the longest text line in a message from outside"
    )
    header_limit: Octets = Field(
        default=524_288, ge=65_536, description="octets of the longest header section of a message"
    )
    recipients: int = Field(default=100, ge=100, description="recipients of one message (RFC 5321: at least 100)")
    messages: int = Field(default=1000, ge=1, description="messages over one connection")
    commands: int = Field(default=10_000, ge=100, description="commands over one connection")
    errors: int = Field(default=20, ge=1, description="refused commands before the connection is closed")
    hops: int = Field(default=50, ge=10, description="Received fields of a message that is going round in circles")
    timeout: float = Field(default=300.0, ge=1, description="seconds a client may be silent (RFC 5321: 300)")
    data_timeout: float = Field(default=1800.0, ge=1, description="seconds that the transfer of one message may take")
    session_timeout: float = Field(default=7200.0, ge=1, description="seconds a connection may last in all")
    xclient_from: tuple[str, ...] = Field(
        default=(), description="networks of filters in front of us that tell who their client is (XCLIENT)"
    )

    @field_validator("xclient_from")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(text, strict=False)) for text in value)

    def may_xclient(self, ip: str) -> bool:
        """Whether a client at this address may say who it speaks for."""
        if not self.xclient_from:
            return False
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return False  # a Unix socket
        return any(address in _network(text) for text in self.xclient_from)


@lru_cache(maxsize=64)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)
