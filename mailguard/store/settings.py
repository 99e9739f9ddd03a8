"""``[store]`` of mailguard.toml: how mail lies on disk."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mailguard.model.duration import Duration

Percent = Annotated[int, Field(ge=1, le=100)]


class StoreSettings(BaseModel):
    """``[store]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    body_search: bool = Field(
        default=True, description="keep the text of messages beside the index, for quick searches in bodies"
    )
    expunge_grace: Duration = Field(
        default=timedelta(days=7),
        description="how long `mailguard undelete` can bring removed mail back; 0: not at all",
    )
    quota_warnings: tuple[Percent, ...] = Field(
        default=(80, 95), description="percent of a quota at which its owner gets a mail"
    )
