"""``[pop3]`` of mailguard.toml, on its own so that commands need not load the protocol to read it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Pop3Settings(BaseModel):
    """``[pop3]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    timeout: float = Field(
        default=600.0, ge=600, le=86_400, description="seconds a signed-in session may idle (RFC 1939: at least 600)"
    )
    signin_timeout: float = Field(default=60.0, gt=0, le=600, description="seconds a client may take to sign in")
    cleartext: bool = Field(
        default=False, description="accept passwords on a connection without TLS; for tests and trusted wires only"
    )
