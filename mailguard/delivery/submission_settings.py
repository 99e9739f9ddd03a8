"""``[submission]`` of mailguard.toml: mail from our own users."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from mailguard.model.duration import Duration, parse_duration


class SubmissionSettings(BaseModel):
    """``[submission]`` of mailguard.toml: mail from our own users."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hide_client: bool = Field(default=True, description="leave the address of the user's machine out of Received")
    hold_max: Duration = Field(
        default=parse_duration("7d"), description="how long a message may be held back (FUTURERELEASE); 0: not offered"
    )
    messages_per_hour: int = Field(default=150, ge=0, description="of one user, before the rest is held; 0: any")
    messages_per_day: int = Field(default=600, ge=0, description="of one user in 24 hours")
    recipients_per_hour: int = Field(default=500, ge=0, description="of one user's messages together")
    recipients_per_day: int = Field(default=2000, ge=0, description="in 24 hours")
    new_recipients_per_day: int = Field(
        default=200, ge=0, description="of these, never written to before: many are the sign of a stolen password"
    )
