"""``[log]`` of mailguard.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Level = Literal["debug", "info", "warning", "error"]


class LogSettings(BaseModel):
    """``[log]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Level = Field(default="info", description="`debug`, `info`, `warning` or `error`: what is worth a line")
    form: Literal["text", "json"] = Field(default="text", description="`text` for people, `json` for programs")
    file: Path | None = Field(
        default=None, description="append to this file, relative to mailguard.toml; none: standard error"
    )
