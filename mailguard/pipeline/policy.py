"""The policy as the engine and its replays use it: checks, rules, limits, overrides, each knowing its line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from mailguard.pipeline.condition import Condition, Conditions
from mailguard.pipeline.context import Options
from mailguard.pipeline.facts import Stage
from mailguard.pipeline.registry import Plugin
from mailguard.pipeline.schema import (
    CheckModel,
    GeneralModel,
    OverrideModel,
    RuleModel,
    ScoreModel,
    TestModel,
)
from mailguard.pipeline.verdict import Action

LIMITS = ("reject", "defer", "quarantine", "junk")
"""The actions that the score can lead to."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a word or a rule does: an action, or points; ``where`` is ``policy.toml:LINE`` or ``default of PLUGIN``."""

    action: Action | None
    points: float
    where: str

    @property
    def text(self) -> str:
        """As written in the file."""
        return self.action.value if self.action else f"score {self.points:g}"


@dataclass(frozen=True, slots=True)
class Check:
    """One check of the policy with its plugin; ``source`` is what decisions call it, ``mode`` is the model's."""

    model: CheckModel
    plugin: Plugin
    options: Options
    effects: Mapping[str, Effect]
    skip_if: Condition | None
    where: str
    name: str = field(init=False)
    source: str = field(init=False)
    mode: str = field(init=False)

    def __post_init__(self) -> None:
        # what the policy calls it: its plugin's name where it gives it none
        object.__setattr__(self, "name", self.model.name or self.model.plugin)
        object.__setattr__(self, "source", f"check {self.name}")
        object.__setattr__(self, "mode", str(self.model.mode))


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; ``stage`` is the first at which all that it reads is known."""

    model: RuleModel
    when: Condition
    effect: Effect
    stage: Stage


@dataclass(frozen=True, slots=True)
class Override:
    """What differs for some recipients."""

    model: OverrideModel
    effects: Mapping[str, Mapping[str, Effect]]
    where: str
    number: int = 0


@dataclass(frozen=True)
class Policy:
    """A loaded policy; nothing in it changes."""

    name: str = "policy.toml"
    text: str = ""
    general: GeneralModel = field(default_factory=GeneralModel)
    checks: tuple[Check, ...] = ()
    rules: tuple[Rule, ...] = ()
    score: ScoreModel = field(default_factory=lambda: ScoreModel(junk=None, reject=None))
    overrides: tuple[Override, ...] = ()
    tests: tuple[TestModel, ...] = ()
    conditions: Conditions = field(default_factory=Conditions)
    lines: Mapping[str, int] = field(default_factory=dict)
    """Lines of single keys: ``score.junk``, ``test.0``, ``policy.allow``, ``check.spf.mode``,
    ``check.spf.options.timeout``, ``override.0.score.junk``, ``override.0.checks.spf.mode``."""

    @cached_property
    def first_rule(self) -> int:
        """The first stage at which a rule may hold; past the last one where there are no rules."""
        return min((rule.stage for rule in self.rules), default=len(Stage))

    @cached_property
    def score_limits(self) -> tuple[tuple[str, float, str], ...]:
        """The limits of ``[score]`` that are set: the action's word, the limit, and where it stands."""
        found = ((name, getattr(self.score, name)) for name in LIMITS)
        return tuple((name, value, self.where(f"score.{name}")) for name, value in found if value is not None)

    def check(self, name: str) -> Check | None:
        """The check of this name."""
        return next((check for check in self.checks if check.name == name), None)

    def runs(self, check: Check) -> bool:
        """Whether it has to run at all: it is on for somebody."""
        other = (o.model.checks.get(check.name) for o in self.overrides)
        return check.model.mode != "off" or any(o is not None and o.mode not in (None, "off") for o in other)

    def where(self, key: str) -> str:
        """``policy.toml:LINE`` of a key in ``lines``; the file's name where it stands on its default."""
        line = self.lines.get(key)
        return f"{self.name}:{line}" if line else f"{self.name}, default"
