"""The plugins and the policy that a configuration names, for a command or the server."""

from __future__ import annotations

from pathlib import Path

from mailguard.pipeline.compiler import load_policy
from mailguard.pipeline.policy import Policy
from mailguard.pipeline.registry import Registry
from mailguard.pipeline.settings import PolicySettings
from mailguard.pipeline.texts import Texts


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
