"""What a policy comes to, for everyone or for one recipient: each thing with the line that set it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from mailguard.pipeline.decide import limits, overrides_for
from mailguard.pipeline.policy import Check, Effect, Override, Policy

Line = tuple[str, str, str]
"""What it is about, what it says, and where that stands."""

_SECRET = ("password", "secret")


def effective(policy: Policy, rcpt: str = "") -> Iterator[Line]:
    """All that applies, in the order in which it is looked at."""
    overrides = overrides_for(policy, rcpt) if rcpt else ()
    yield "policy mode", policy.general.mode, policy.where("policy.mode")
    for check in policy.checks:
        yield from _check(policy, check, overrides)
    for rule in policy.rules:
        mode = "" if rule.model.mode == "enforce" else f" ({rule.model.mode})"
        yield f'rule "{rule.model.name}"{mode}', f"{rule.effect.text} when {rule.model.when}", rule.effect.where
    for name, (limit, where) in limits(policy, overrides).items():
        yield f"score >= {limit:g}", name, where
    for override in reversed(overrides):  # the recipient's own first, then its domain's, then everyone's
        at = f"override.{override.number}"
        yield from _senders(override.model.deny, "junk", policy.where(f"{at}.deny"))
        yield from _senders(override.model.allow, "accept (if vouched for)", policy.where(f"{at}.allow"))
    yield from _senders(policy.general.deny, "reject", policy.where("policy.deny"))
    yield from _senders(policy.general.allow, "accept (if vouched for)", policy.where("policy.allow"))


def _check(policy: Policy, check: Check, overrides: Sequence[Override]) -> Iterator[Line]:
    at, default = f"check.{check.name}", f"default of {check.model.plugin}"
    mode, where = str(check.model.mode), _set_at(policy, f"{at}.mode", check.where)
    effects: dict[str, Effect] = dict(check.effects)
    for override in overrides:
        other = override.model.checks.get(check.name)
        if other is not None and other.mode:
            mode, where = other.mode, policy.where(f"override.{override.number}.checks.{check.name}.mode")
        effects |= override.effects.get(check.name, {})
    plugin = "" if check.name == check.model.plugin else f" (plugin {check.model.plugin})"
    yield f"check {check.name}{plugin}", mode, where
    if check.skip_if is not None:
        yield f"  {check.name} skip_if", check.skip_if.text, _set_at(policy, f"{at}.skip_if", default)
    for key in ("roles", "deadline", "reply"):
        if f"{at}.{key}" in policy.lines:
            value = getattr(check.model, key)
            shown = ", ".join(value) if isinstance(value, tuple) else f"{value:g} s" if key == "deadline" else value
            yield f"  {check.name} {key}", str(shown), policy.where(f"{at}.{key}")
    for key, value in check.options.model_dump(mode="json").items():
        shown = '"***"' if key in _SECRET and value else json.dumps(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        yield f"  {check.name} options.{key}", shown, _set_at(policy, f"{at}.options.{key}", default)
    for word, effect in effects.items():
        yield f"  {check.name} {word}", effect.text, effect.where


def _set_at(policy: Policy, key: str, otherwise: str) -> str:
    return policy.where(key) if key in policy.lines else otherwise


def _senders(senders: Sequence[str], action: str, where: str) -> Iterator[Line]:
    for sender in senders:
        yield f"from {sender}", action, where
