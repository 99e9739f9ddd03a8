"""Plugins: found by entry point or as loose files, loaded by name, each behind a caller of its own."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pluggy

from mailguard.pipeline import hookspecs
from mailguard.pipeline.context import PluginInfo
from mailguard.pipeline.facts import Stage

CHECKS = ("check_client", "check_sender", "check_recipient", "check_message")
"""The hooks that find something, in the order of their stages."""

ERROR = "error"
"""The word of a plugin that raised or missed its deadline."""

_WORD = re.compile(r"[a-z][a-z0-9_-]*\Z")
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


class PluginError(Exception):
    """A plugin cannot be used; the text names it and says why."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One loaded plugin: what it says of itself, and a caller for each hook that it implements."""

    info: PluginInfo
    hooks: Mapping[str, pluggy.HookCaller]
    origin: str

    @property
    def name(self) -> str:
        """The name that findings, policy and records know it by."""
        return self.info.name

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages at which it checks, in their order; the message's where it checks nothing."""
        return tuple(stage for stage, hook in zip(Stage, CHECKS, strict=True) if hook in self.hooks) or (Stage.MESSAGE,)

    def call(self, hook: str, **arguments: Any) -> Any:
        """Calls one hook; None if the plugin does not implement it. Lets the plugin's exceptions through."""
        caller = self.hooks.get(hook)
        if caller is None:
            return None
        results = caller(**arguments)
        return results[0] if isinstance(results, list) and results else None

    def function(self, hook: str) -> tuple[Callable[..., Any], Sequence[str]]:
        """The function that implements a hook of ``hooks``, and the names of its arguments: what is called for every
        message need not be looked up each time."""
        made = self.hooks[hook].get_hookimpls()
        if len(made) == 1 and not (made[0].wrapper or made[0].hookwrapper):
            return made[0].function, made[0].argnames
        spec = self.hooks[hook].spec
        assert spec is not None
        names = spec.argnames
        return lambda *values: self.call(hook, **dict(zip(names, values, strict=True))), names


def wrap(module: object, origin: str = "") -> Plugin:
    """The plugin made of a module, or of any object with ``@hookimpl`` functions. Raises PluginError."""
    origin = origin or getattr(module, "__file__", None) or repr(module)
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        raise PluginError(f"{origin}: {' '.join(str(error).split())}") from error
    hooks = {c.name: getattr(manager.hook, c.name) for c in manager.get_hookcallers(module) or ()}
    if "describe" not in hooks:
        raise PluginError(f"{origin}: no describe() marked with @hookimpl")
    info = hooks["describe"]()
    if not isinstance(info, PluginInfo):
        raise PluginError(f"{origin}: describe() returned {type(info).__name__}, not PluginInfo")
    _check_info(info, origin)
    return Plugin(info, hooks, origin)


def _check_info(info: PluginInfo, origin: str) -> None:
    if not _NAME.match(info.name):
        raise PluginError(f"{origin}: the name {info.name!r} must be of lower-case letters, digits and _")
    for word in info.words:
        if not _WORD.match(word) or word == ERROR:
            raise PluginError(f"{origin}: {word!r} cannot be a word of {info.name} (error is taken)")


class Registry:
    """Where plugins come from: loose files in ``plugin_dir``, and the entry points of group ``mailguard``.

    Nothing is imported but what ``load`` is asked for. A loose file wins over an entry point of the same name.
    """

    def __init__(self, plugin_dir: Path | None = None) -> None:
        self._dir = plugin_dir
        self._points: dict[str, EntryPoint] | None = None

    def names(self) -> dict[str, str]:
        """Every plugin that could be named in the policy, with where it comes from."""
        found = {name: f"{p.value} ({_distribution(p)})" for name, p in self._entry_points().items()}
        found.update({path.stem: str(path) for path in self._files()})
        return dict(sorted(found.items()))

    def load(self, name: str) -> Plugin:
        """Imports one plugin. Raises PluginError, whatever the plugin's own code raises at import."""
        path = next((p for p in self._files() if p.stem == name), None)
        point = self._entry_points().get(name)
        if path is None and point is None:
            raise PluginError(f"there is no plugin {name!r}")
        try:
            module = _load_file(path) if path else point.load()  # type: ignore[union-attr]
        except Exception as error:
            raise PluginError(f"plugin {name!r} cannot be imported: {type(error).__name__}: {error}") from error
        plugin = wrap(module, str(path) if path else "")
        if plugin.name != name:
            raise PluginError(f"plugin {name!r} calls itself {plugin.name!r} ({plugin.origin})")
        return plugin

    def _entry_points(self) -> dict[str, EntryPoint]:
        if self._points is None:
            self._points = {p.name: p for p in entry_points(group=hookspecs.PROJECT)}
        return self._points

    def _files(self) -> Iterable[Path]:
        if self._dir is None or not self._dir.is_dir():
            return ()
        return sorted(p for p in self._dir.glob("*.py") if not p.name.startswith(("_", ".", "test_")))


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "unknown distribution"


def _load_file(path: Path) -> object:
    name = f"mailguard_plugin_dir.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their module up there
    spec.loader.exec_module(module)
    return module
