"""What a ``[[test]]`` of the policy may say of the facts, the findings and the rule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

from mailguard.pipeline import source
from mailguard.pipeline.context import PluginInfo
from mailguard.pipeline.facts import FACTS
from mailguard.pipeline.registry import ERROR
from mailguard.pipeline.schema import TestModel
from mailguard.pipeline.source import Problem, Source, did_you_mean, flatten

_TABLES = {"found", "facts", "header"}


def test_problems(
    src: Source, number: int, model: TestModel, infos: Mapping[str, PluginInfo], checks: Set[str], rules: Set[str]
) -> Iterator[Problem]:
    """The mistakes in one test; ``infos`` are those of the checks that could be loaded, ``checks`` and ``rules`` all
    that the policy names."""
    flat = {name: value for name, value in model.facts.items() if name in _TABLES}
    flat |= flatten({name: value for name, value in model.facts.items() if name not in _TABLES})
    for name, value in flat.items():
        path: source.Path = ("test", number, "facts", *name.split("."))
        if name not in FACTS:
            yield src.problem(path, f'there is no fact "{name}"', did_you_mean(name, FACTS))
        elif not _fits(FACTS[name].type, value):
            yield src.problem(path, f"{name} must be of type {FACTS[name].type}", value=True)
        elif name == "found":
            yield from _findings(src, path, value, infos, checks)
    if model.rule and model.rule not in rules:
        yield src.problem(("test", number, "rule"), f'there is no rule "{model.rule}"', did_you_mean(model.rule, rules))


test_problems.__test__ = False  # type: ignore[attr-defined]  # no test for pytest


def _findings(
    src: Source, path: source.Path, found: Mapping[str, Any], infos: Mapping[str, PluginInfo], checks: Set[str]
) -> Iterator[Problem]:
    for name, word in found.items():
        if name not in checks:
            yield src.problem((*path, name), f'there is no check "{name}"', did_you_mean(name, checks))
        elif (info := infos.get(name)) and word not in (*info.words, ERROR, "none"):
            hint = did_you_mean(str(word), [*info.words, ERROR])
            yield src.problem((*path, name), f'{name} never finds "{word}"', hint, value=True)


def _fits(kind: str, value: Any) -> bool:
    if kind == "list(string)":
        return isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value))
    if kind in ("double", "timestamp"):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind.startswith("map"):
        return isinstance(value, dict)
    return type(value) is {"string": str, "bool": bool, "int": int}[kind]
