"""The plugin author's guide is complete and true: its snippets run, and every hook, field and fact stands in it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from mailguard.pipeline import hookspecs
from mailguard.pipeline.compiler import load_policy
from mailguard.pipeline.facts import FACTS
from mailguard.pipeline.registry import Registry
from mailguard.plugin import Context, Finding, PluginInfo
from mailguard.testing import fixtures

GUIDE = (Path(__file__).parents[2] / "plugins" / "README.md").read_text("utf-8")
HOOKS = [name for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec")]


def snippets(language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", GUIDE)


def test_the_first_filter_works(tmp_path):
    filter_text, test_text = snippets("python")
    (tmp_path / "late.py").write_text(filter_text)
    (tmp_path / "policy.toml").write_text(snippets("toml")[0])
    registry = Registry(tmp_path)
    policy = load_policy(tmp_path / "policy.toml", registry.load, registry.names)
    assert policy.check("late").effects["late"].text == "score 2"
    import sys

    space: dict[str, object] = {}
    exec(compile(test_text, "README.md", "exec"), space)
    space["test_urgent_mail_is_late"](sys.modules["mailguard_plugin_dir.late"])


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_and_its_arguments_stand_there(hook):
    row = next(line for line in GUIDE.splitlines() if line.startswith(f"| `{hook}` |"))
    function = getattr(hookspecs, hook)
    for name in function.__code__.co_varnames[: function.__code__.co_argcount]:
        assert name in row


@pytest.mark.parametrize("kind", [PluginInfo, Finding, Context])
def test_every_field_stands_there(kind):
    for field in dataclasses.fields(kind):
        assert f"`{field.name}`" in GUIDE, field.name


@pytest.mark.parametrize("name", FACTS)
def test_every_fact_stands_there(name):
    fact = FACTS[name]
    assert f"| `{name}` | {fact.type} | {fact.stage.word} | {fact.meaning} |" in GUIDE


def test_every_fixture_stands_there():
    for name in dir(fixtures):
        if name.startswith("mail_"):
            assert name in GUIDE
