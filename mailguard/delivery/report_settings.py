"""``[reports]`` of mailguard.toml."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mailguard.model.address import Address


class ReportSettings(BaseModel):
    """Reports that we send to others, once a day; what we receive is shown by ``mailguard reports``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dmarc: bool = Field(default=False, description="tell domains that ask for it how mail in their name fared here")
    tls: bool = Field(default=False, description="tell domains that ask for it how TLS on the way to them went")
    sender: str = Field(default="", description="address they come from; empty: postmaster at our first domain")
    organisation: str = Field(default="", description="our name in them; empty: the sender's domain")

    @field_validator("sender")
    @classmethod
    def _sender(cls, value: str) -> str:
        return str(Address.parse(value)) if value else ""
