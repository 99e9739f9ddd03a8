"""``[state]`` of mailguard.toml: the state database."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class StateSettings(BaseModel):
    """``[state]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(default="", description="SQLAlchemy URL; empty: `state.db` (SQLite) in the data folder")
    connections: int = Field(default=4, ge=1, le=64, description="database connections per worker")
