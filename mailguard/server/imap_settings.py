"""``[imap]`` of mailguard.toml, on its own so that commands need not load the protocol to read it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ImapSettings(BaseModel):
    """``[imap]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout: float = Field(
        default=1800.0, ge=1800, le=86_400, description="seconds a signed-in session may idle (RFC 9051: at least 1800)"
    )
    signin_timeout: float = Field(default=60.0, gt=0, le=600, description="seconds a client may take to sign in")
    write_timeout: float = Field(
        default=120.0, gt=0, le=1800, description="seconds a client may take nothing of what it asked for"
    )
    cleartext: bool = Field(
        default=False, description="accept passwords on a connection without TLS; for tests and trusted wires only"
    )
    append_limit: int = Field(
        default=52_428_800, ge=65_536, description="octets of the largest message a client may upload"
    )
    hide_capabilities: tuple[str, ...] = Field(
        default=(), description="capabilities that no client is told of; accounts.toml hides more from one account"
    )
