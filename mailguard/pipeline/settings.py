"""``[policy]`` of mailguard.toml: where the policy and loose plugins are found."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class PolicySettings(BaseModel):
    """``[policy]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path = Field(
        default=Path("policy.toml"), description="the policy file, relative to mailguard.toml; absent: nothing checked"
    )
    plugin_dir: Path = Field(
        default=Path("plugins"), description="folder of loose plugin files, relative to mailguard.toml; may be absent"
    )
