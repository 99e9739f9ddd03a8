"""The shape of ``policy.toml``, as pydantic models; what refers to plugins and facts is checked in ``policy``."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mailguard.pipeline.verdict import Action

Mode = Literal["off", "observe", "enforce"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_SCORE = re.compile(r"score\s+([+-]?\d+(?:\.\d+)?)\Z")
ACTIONS = (*(action.value for action in Action), "score N")


def parse_action(text: str) -> tuple[Action | None, float]:
    """An action as written: an Action, or None and the points of ``score N``. Raises ValueError."""
    if match := _SCORE.match(text):
        return None, float(match[1])
    try:
        return Action(text), 0.0
    except ValueError:
        raise ValueError(f'"{text}" is no action') from None


class CheckModel(_Model):
    """``[[check]]``: one plugin, and what its words do."""

    plugin: str = Field(description="the plugin's name; `mailguard plugins list` shows them")
    name: str = Field(
        default="",
        description="what the check is called, if not like its plugin: so that one plugin can stand here twice",
        pattern=r"^([a-z][a-z0-9_]*)?$",
    )
    mode: Mode = Field(default="enforce", description="`off`, `observe` (record what it would do) or `enforce`")
    on: dict[str, str] = Field(
        default={}, description="the action for each word the check may find; others have the plugin's own default"
    )
    skip_if: str | None = Field(
        default=None, description="a condition; where it holds the check is not run; absent: the plugin's own, if any"
    )
    roles: tuple[Literal["mx", "submission", "lmtp"], ...] = Field(
        default=("mx",), description="for which mail it runs: `mx` (from outside), `submission` (our users'), `lmtp`"
    )
    options: dict[str, Any] = Field(default={}, description="the plugin's own options; see its README")
    reply: str = Field(default="", description="text for the client where this check refuses; empty: the reason found")
    deadline: float = Field(default=5.0, gt=0, le=120, description="seconds one call may take")


class RuleModel(_Model):
    """``[[rule]]``: a condition and an action; the first whose condition holds decides."""

    name: str = Field(description="what `mailguard why` and the replies call it")
    when: str = Field(description="a condition over the facts")
    then: str = Field(description="an action; `score N` adds points and goes on to the next rule")
    mode: Mode = Field(default="enforce", description="`off`, `observe` or `enforce`")
    reply: str = Field(default="", description="text for the client where it refuses")


class ScoreModel(_Model):
    """``[score]``: what the sum of points leads to, where no rule decided and no check did worse."""

    junk: float | None = Field(default=6.0, description="from this score on the message goes to Junk")
    quarantine: float | None = Field(default=None, description="from this score on it is held")
    defer: float | None = Field(default=None, description="from this score on it is deferred (4xx)")
    reject: float | None = Field(default=15.0, description="from this score on it is refused (5xx)")


class CheckOverride(_Model):
    """``checks.NAME`` of an ``[[override]]``."""

    mode: Mode | None = Field(default=None, description="another mode")
    on: dict[str, str] = Field(default={}, description="other actions for single words")


class OverrideModel(_Model):
    """``[[override]]``: what is different for some recipients. A user's wins over a domain's, a domain's over
    ``*``; among equals the later one."""

    recipients: tuple[str, ...] = Field(description="addresses, domains, or `*`", min_length=1)
    checks: dict[str, CheckOverride] = Field(default={}, description="by plugin: `mode` and `on`")
    score: dict[Literal["junk", "quarantine", "defer", "reject"], float] = Field(default={}, description="other limits")
    allow: tuple[str, ...] = Field(
        default=(), description="senders (addresses or domains of From) to accept, if DMARC, DKIM or SPF vouches"
    )
    deny: tuple[str, ...] = Field(default=(), description="senders (addresses or domains) to send to Junk")


class TestModel(_Model):
    """``[[test]]``: facts, and the action that they must lead to."""

    __test__ = False  # no test class for pytest
    name: str = Field(description="what it proves")
    facts: dict[str, Any] = Field(description="facts as in conditions; those left out read as unknown")
    expect: Literal["accept", "junk", "quarantine", "defer", "reject", "discard"] = Field(description="the action")
    rule: str = Field(default="", description="the name of the rule that must have decided")


class GeneralModel(_Model):
    """``[policy]``: the policy as a whole."""

    mode: Literal["observe", "enforce"] = Field(
        default="enforce", description="`observe` accepts everything and records what would have happened"
    )
    allow: tuple[str, ...] = Field(
        default=(), description="senders (addresses or domains of From) to accept, if DMARC, DKIM or SPF vouches"
    )
    deny: tuple[str, ...] = Field(default=(), description="senders (addresses or domains) to refuse")
    keep_days: int = Field(default=30, ge=1, le=3650, description="days that verdict records are kept")
    keep_records: int = Field(default=200_000, ge=1000, description="verdict records kept at most")
    memory: int = Field(
        default=512, ge=0, description="MiB by which a worker may grow while a check runs before it is stopped; 0: any"
    )
    faults: int = Field(default=10, ge=1, description="faults in a row after which a plugin is switched off")
    off_for: float = Field(default=600.0, gt=0, description="seconds that it stays off before it is tried again")


class PolicyModel(_Model):
    """The whole file."""

    policy: GeneralModel = Field(default=GeneralModel(), description="the policy as a whole")
    check: tuple[CheckModel, ...] = Field(default=(), description="the checks")
    rule: tuple[RuleModel, ...] = Field(default=(), description="the rules")
    score: ScoreModel = Field(default=ScoreModel(), description="limits of the score")
    override: tuple[OverrideModel, ...] = Field(default=(), description="what is different for some recipients")
    test: tuple[TestModel, ...] = Field(default=(), description="what must hold")
