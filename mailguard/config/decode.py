"""TOML read into models, every mistake in it found at once: file, line, dotted path, what to write instead."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mailguard.pipeline.shape import shape_problems
from mailguard.pipeline.source import PolicyError, Problem, Source
from mailguard.pipeline.texts import Texts

ModelT = TypeVar("ModelT", bound=BaseModel)

OVERRIDE = "--set"
"""The name that stands for the command line where a problem would name a file."""


class ConfigError(Exception):
    """A configuration cannot be used; ``problems`` lists every mistake, file by file, top to bottom."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.problems)))


def read_source(path: Path, missing: str, texts: Texts | None = None) -> Source:
    """The file as a Source; ``missing`` is the cure if there is none. Raises ConfigError."""
    try:
        return Source(str(path), (texts or Texts()).read(path))
    except FileNotFoundError:
        raise ConfigError([Problem(str(path), 0, 0, "there is no such file", missing)]) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError([Problem(str(path), 0, 0, f"cannot be read: {reason}")]) from None
    except PolicyError as error:
        raise ConfigError(error.problems) from None


def decode(source: Source, model: type[ModelT], overrides: Sequence[str] = ()) -> ModelT:
    """The file as a model, with ``dotted.key=VALUE`` overrides put in. Raises ConfigError with every mistake."""
    changed = [apply_override(source.data, text) for text in overrides]
    try:
        return model.model_validate(source.data)
    except ValidationError as error:
        problems = [_told(p, changed) for p in shape_problems(source, error, (), model)]
        raise ConfigError(sorted(problems, key=lambda p: (p.line, p.column))) from None


def _told(problem: Problem, overrides: Sequence[str]) -> Problem:
    """Names the command line as the place of what was set there."""
    here = any(problem.path == path or problem.path.startswith(path + ".") for path in overrides)
    return replace(problem, file=OVERRIDE, line=0, column=0) if here else problem


def parse_override(text: str) -> tuple[list[str], Any]:
    """``dotted.key=VALUE`` taken apart; VALUE is TOML, or a string where it is none. Raises ConfigError."""
    name, equals, value = text.partition("=")
    try:
        keys = _keys(name.strip())
    except tomllib.TOMLDecodeError:
        keys = []
    if not equals or not keys:
        raise ConfigError([Problem(OVERRIDE, 0, 0, f"{text!r} is not of the form dotted.key=VALUE")])
    try:
        return keys, tomllib.loads(f"x = {value}")["x"]
    except tomllib.TOMLDecodeError:
        return keys, value


def _keys(name: str) -> list[str]:
    keys = []
    node: Any = tomllib.loads(f"{name} = 0")
    while isinstance(node, dict):
        key, node = next(iter(node.items()))
        keys.append(key)
    return keys


def apply_override(data: dict[str, Any], text: str) -> str:
    """Puts one override into the data; returns its dotted path. Numbers count through arrays. Raises ConfigError."""
    keys, value = parse_override(text)
    node: Any = data
    try:
        for key in keys[:-1]:
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
        if isinstance(node, list):
            node[int(keys[-1])] = value
        else:
            node[keys[-1]] = value
    except (ValueError, IndexError, TypeError, AttributeError):
        problem = Problem(OVERRIDE, 0, 0, "there is nothing of that name to set", path=".".join(keys))
        raise ConfigError([problem]) from None
    return ".".join(keys)
