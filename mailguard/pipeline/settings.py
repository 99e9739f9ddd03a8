"""Where the policy and loose plugins are found, and what a command or the server loads them with."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from mailguard.pipeline.compiler import load_policy
from mailguard.pipeline.policy import Policy
from mailguard.pipeline.registry import Registry
from mailguard.pipeline.texts import Texts


class PolicySettings(BaseModel):
    """``[policy]`` of mailguard.toml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path = Field(
        default=Path("policy.toml"), description="the policy file, relative to mailguard.toml; absent: nothing checked"
    )
    plugin_dir: Path = Field(
        default=Path("plugins"), description="folder of loose plugin files, relative to mailguard.toml; may be absent"
    )


def registry(settings: PolicySettings, base: Path) -> Registry:
    """The registry for a configuration in the folder ``base``."""
    return Registry(base / settings.plugin_dir)


def policy(settings: PolicySettings, base: Path, texts: Texts | None = None) -> Policy:
    """The policy for a configuration in the folder ``base``; an empty one where there is no such file.

    Raises PolicyError with every mistake.
    """
    path = base / settings.file
    if not (texts or Texts()).exists(path):
        return Policy(name=path.name)
    plugins = registry(settings, base)
    return load_policy(path, plugins.load, plugins.names, texts)
