"""``policy.toml`` read and compiled, every mistake in it found at once with its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mailguard.pipeline import source
from mailguard.pipeline.condition import Condition, ConditionError, Conditions
from mailguard.pipeline.context import Options, PluginInfo
from mailguard.pipeline.facts import Stage
from mailguard.pipeline.policy import Check, Effect, Override, Policy, Rule
from mailguard.pipeline.registry import ERROR, Plugin, PluginError
from mailguard.pipeline.schema import (
    ACTIONS,
    CheckModel,
    OverrideModel,
    PolicyModel,
    RuleModel,
    TestModel,
    parse_action,
)
from mailguard.pipeline.shape import shape_problems, well_formed
from mailguard.pipeline.source import PolicyError, Problem, Source, did_you_mean, flatten
from mailguard.pipeline.testcase import test_problems
from mailguard.pipeline.texts import Texts
from mailguard.pipeline.verdict import Action

ModelT = TypeVar("ModelT", bound=BaseModel)
Load = Callable[[str], Plugin]


def load_policy(
    path: Path, load: Load, names: Callable[[], Mapping[str, str]] = dict, texts: Texts | None = None
) -> Policy:
    """Reads a policy file; ``load`` and ``names`` are a Registry's. Raises PolicyError with every mistake."""
    try:
        text = (texts or Texts()).read(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise PolicyError([Problem(str(path), 1, 1, f"cannot be read: {reason}")]) from None
    return parse_policy(str(path), text, load, names)


def parse_policy(name: str, text: str, load: Load, names: Callable[[], Mapping[str, str]] = dict) -> Policy:
    """Compiles a policy's text; mistakes go by the name as it is, decisions by its last part. Raises PolicyError with
    every mistake."""
    src = Source(name, text)
    return _Loader(src, load, names).policy()


class _Loader:
    def __init__(self, src: Source, load: Load, names: Callable[[], Mapping[str, str]]) -> None:
        self._src = src
        self._name = PurePath(src.name).name
        self._load = load
        self._names = names
        self._problems: list[Problem] = []
        self._conditions = Conditions()
        self._infos: dict[str, PluginInfo] = {}
        self._named = {str(name) for raw in self._raw("check") if (name := raw.get("name") or raw.get("plugin"))}
        tables = [raw.get("checks") for raw in self._raw("override")]
        self._overridden = {name for table in tables if isinstance(table, dict) for name in table}
        self._plugins: dict[str, Plugin] = {}

    def policy(self) -> Policy:
        model = self._shape()
        checks = [self._check(n, c, p) for n, c in self._each("check", CheckModel) if (p := self._plugin(n, c))]
        rules = [rule for n, r in self._each("rule", RuleModel) if (rule := self._rule(n, r))]
        overrides = tuple(self._override(n, o) for n, o in self._each("override", OverrideModel))
        names = {str(raw.get("name")) for raw in self._raw("rule")}
        for n, test in self._each("test", TestModel):
            self._problems += test_problems(self._src, n, test, self._infos, self._named, names)
        self._order(checks)
        if self._problems:
            raise PolicyError(self._problems)
        return Policy(
            name=self._name,
            text=self._src.text,
            general=model.policy,
            checks=tuple(checks),
            rules=tuple(rules),
            score=model.score,
            overrides=overrides,
            tests=model.test,
            conditions=self._conditions,
            lines=self._lines(model),
        )

    def _shape(self) -> PolicyModel:
        try:
            return PolicyModel.model_validate(self._src.data)
        except ValidationError as error:
            self._problems += shape_problems(self._src, error, (), PolicyModel)
            return PolicyModel()

    def _raw(self, section: str) -> list[dict[str, Any]]:
        items = self._src.data.get(section, [])
        return [item if isinstance(item, dict) else {} for item in items] if isinstance(items, list) else []

    def _each(self, section: str, model: type[ModelT]) -> Iterator[tuple[int, ModelT]]:
        """The elements of a section, without what is ill-formed in them: that has been told already."""
        for n, raw in enumerate(self._raw(section)):
            if (mended := well_formed(raw, model)) is not None:
                yield n, mended

    def _parse(self, path: source.Path, text: str, where: str) -> Effect:
        try:
            return Effect(*parse_action(text), where)
        except ValueError as error:
            self._add(path, str(error), did_you_mean(text, ACTIONS), value=True)
            return Effect(Action.ACCEPT, 0.0, where)

    def _lines(self, model: PolicyModel) -> dict[str, int]:
        lines = {f"score.{k}": self._src.line(("score", k)) for k in self._src.data.get("score", {})}
        lines |= {f"policy.{k}": self._src.line(("policy", k)) for k in self._src.data.get("policy", {})}
        for n, raw in enumerate(self._raw("check")):
            name = raw.get("name") or raw.get("plugin")
            for key, _ in (*raw.items(), *flatten({"options": raw.get("options", {})})):
                path: source.Path = ("check", n, *key.split(".", 2)[:2])
                lines[f"check.{name}.{'.'.join(map(str, path[2:]))}"] = self._src.line(path)
        for n, raw in enumerate(self._raw("override")):
            for key, _ in (*raw.items(), *flatten(raw)):
                lines[f"override.{n}.{key}"] = self._src.line(("override", n, *key.split(".")))
        return lines | {f"test.{n}": self._src.line(("test", n)) for n in range(len(model.test))}

    def _add(self, path: source.Path, text: str, hint: str = "", *, value: bool = False) -> None:
        self._problems.append(self._src.problem(path, text, hint, value=value))

    def _where(self, *path: str | int) -> str:
        return f"{self._name}:{self._src.line(path)}"

    def _plugin(self, n: int, model: CheckModel) -> Plugin | None:
        path, name = ("check", n, "plugin"), model.name or model.plugin
        if name in self._infos:
            hint = "" if model.name else "give one of them a `name` of its own"
            self._add(path, f'the check "{name}" stands here a second time', hint, value=True)
            return None
        try:
            plugin = self._load(model.plugin)
        except PluginError as error:
            hint = did_you_mean(model.plugin, self._names()) if "there is no plugin" in str(error) else ""
            self._add(path, str(error).replace("'", '"'), hint, value=True)
            return None
        self._infos[name] = plugin.info
        self._plugins[name] = plugin
        return plugin

    def _check(self, n: int, model: CheckModel, plugin: Plugin) -> Check:
        options = Options()
        try:
            options = plugin.info.options.model_validate(model.options)
        except ValidationError as error:
            at = ("check", n, "options")
            self._problems += shape_problems(self._src, error, at, plugin.info.options, f" of {plugin.name}")
        effects = {ERROR: Effect(Action.ACCEPT, 0.0, "default")}
        for word, text in plugin.info.words.items():
            try:
                effects[word] = Effect(*parse_action(text), f"default of {plugin.name}")
            except ValueError:
                self._add(("check", n, "plugin"), f'the plugin gives "{word}" a default that is no action: "{text}"')
        effects |= self._effects(("check", n, "on"), model.on, plugin.info)
        skip_if = self._skip_if(n, model, plugin)
        return Check(model, plugin, options, effects, skip_if, self._where("check", n))

    def _skip_if(self, n: int, model: CheckModel, plugin: Plugin) -> Condition | None:
        if model.skip_if is not None:
            return self._condition(("check", n, "skip_if"), model.skip_if) if model.skip_if else None
        if not plugin.info.skip_if or (model.mode == "off" and model.plugin not in self._overridden):
            return None
        try:  # it may name checks that this policy does not have: those found nothing
            return self._conditions.compile(plugin.info.skip_if)
        except ConditionError as error:
            self._add(("check", n, "plugin"), f"the skip_if of {plugin.name} itself is wrong: {error.text}")
            return None

    def _effects(self, path: source.Path, on: Mapping[str, str], info: PluginInfo) -> dict[str, Effect]:
        for word in on:
            if word not in info.words and word != ERROR:
                hint = did_you_mean(word, [*info.words, ERROR])
                self._add((*path, word), f'{info.name} never finds "{word}"', hint)
        return {word: self._parse((*path, word), text, self._where(*path, word)) for word, text in on.items()}

    def _rule(self, n: int, model: RuleModel) -> Rule | None:
        when = self._condition(("rule", n, "when"), model.when)
        effect = self._parse(("rule", n, "then"), model.then, self._where("rule", n))
        if when is None:
            return None
        return Rule(model, when, effect, self._stage(when))

    def _stage(self, when: Condition) -> Stage:
        plugins = [self._plugins[name] for name in when.plugins if name in self._plugins]
        by_variable = not when.plugins and bool(when.names & {"found", "facts"})
        return max([when.stage, *(p.stages[-1] for p in plugins), Stage.MESSAGE if by_variable else Stage.CLIENT])

    def _condition(self, path: source.Path, text: str) -> Condition | None:
        try:
            condition = self._conditions.compile(text)
        except ConditionError as error:
            shift = (error.line - 1, error.column - 1)
            self._problems.append(self._src.problem(path, error.text, error.suggestion, value=True, shift=shift))
            return None
        for kind, key, offset in condition.keys:
            if kind in ("found", "facts") and key not in self._named:
                line, column = source.line_column(text, offset)
                self._problems.append(
                    self._src.problem(
                        path,
                        f'{kind}["{key}"]: there is no check of this name',
                        did_you_mean(key, self._named),
                        value=True,
                        shift=(line - 1, column - 1),
                    )
                )
        return condition

    def _override(self, n: int, model: OverrideModel) -> Override:
        effects = {}
        for name, check in model.checks.items():
            info = self._infos.get(name)
            if info is None and name in self._named:
                continue
            if info is None:
                hint = did_you_mean(name, self._named)
                self._add(("override", n, "checks", name), f'there is no check "{name}"', hint)
                continue
            effects[name] = self._effects(("override", n, "checks", name, "on"), check.on, info)
        return Override(model, effects, self._where("override", n), n)

    def _order(self, checks: list[Check]) -> None:
        seen: set[str] = set()
        for n, check in enumerate(checks):
            late = [name for name in check.plugin.info.after if name in self._infos and name not in seen]
            if late:
                self._add(
                    ("check", n), f'the check "{check.name}" must stand below "{late[0]}", whose findings it reads'
                )
            seen.add(check.name)
