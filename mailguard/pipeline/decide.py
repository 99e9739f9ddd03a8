"""The decision: what the policy makes of the facts at one stage. Pure, so that it can be replayed and tested.

In this order: the first rule that holds decides; else what the checks' words do, the heaviest action first, and the
limits of the score; an allow list lifts junk, quarantine and the score, a deny list adds its own action. For each
recipient with overrides of its own the latter part is worked out again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mailguard.pipeline.facts import Facts, Stage
from mailguard.pipeline.policy import LIMITS, Check, Effect, Override, Policy, Rule
from mailguard.pipeline.verdict import Action, Decision


@dataclass(frozen=True, slots=True)
class Applied:
    """One effect that was weighed: ``source`` is ``check NAME`` or ``rule NAME``, ``word`` the word found or
    ``""``; ``observed`` ones are recorded only."""

    source: str
    word: str
    effect: Effect
    points: float
    observed: bool = False

    @property
    def action(self) -> Action | None:
        """The action, None where it only adds points."""
        return self.effect.action


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided for one stage.

    ``would`` is the action that would have been taken if everything in observe mode were enforced; ``notes`` say
    what could not be evaluated; ``limits`` are the score limits that applied.
    """

    action: Action
    decision: Decision
    score: float = 0.0
    reply: str = ""
    applied: tuple[Applied, ...] = ()
    would: Action = Action.ACCEPT
    notes: tuple[str, ...] = ()
    per_recipient: Mapping[str, Action] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)


_NOTHING = Outcome(Action.ACCEPT, Decision("default"))


def decide(policy: Policy, stage: Stage, facts: Facts, points: Mapping[str, float], base_score: float = 0.0) -> Outcome:
    """Decides. ``facts["found"]`` holds the words found so far, ``points`` the points that came with them,
    ``base_score`` points from elsewhere (in tests)."""
    if stage is not Stage.MESSAGE and not facts.get("found") and policy.first_rule > stage:
        return _NOTHING
    rcpts: Sequence[str] = facts.get("rcpt", ()) if stage >= Stage.RECIPIENT else ()
    scopes = {rcpt: _overrides(policy, rcpt) for rcpt in rcpts}
    only = _common(scopes)
    base = _stage(policy, stage, facts, points, only, base_score)
    if stage is not Stage.MESSAGE or base.decision.source.startswith("rule "):
        return _observed(policy, base)
    differing = {
        rcpt: _stage(policy, stage, facts, points, overrides, base_score)
        for rcpt, overrides in scopes.items()
        if overrides != only
    }
    return _observed(policy, _combine(base, differing, len(rcpts)))


def _common(scopes: Mapping[str, tuple[Override, ...]]) -> tuple[Override, ...]:
    """The overrides that every recipient shares, if all share the same; else none."""
    values = list(scopes.values())
    return values[0] if values and all(value == values[0] for value in values) else ()


def _combine(base: Outcome, differing: Mapping[str, Outcome], count: int) -> Outcome:
    if not differing:
        return base
    everyone = list(differing.values()) + ([base] if len(differing) < count else [])
    if all(o.action.refuses for o in everyone):
        return min(everyone, key=lambda o: o.action.weight)
    mildest = min(everyone, key=lambda o: o.action.weight)
    # One answer goes to the client for all of them: who would have refused gets it in Junk.
    default = base if len(differing) < count else mildest
    actions = {rcpt: Action.JUNK if o.action.refuses else o.action for rcpt, o in differing.items()}
    if default.action.refuses:
        default = replace(default, action=Action.JUNK)
    return replace(default, per_recipient={r: a for r, a in actions.items() if a is not default.action})


def _observed(policy: Policy, outcome: Outcome) -> Outcome:
    if policy.general.mode == "enforce":
        return outcome
    would = max(outcome.would, outcome.action, key=lambda a: a.weight)
    decision = Decision(f"observe mode (else: {outcome.decision.source})", policy.where("policy.mode"))
    return replace(outcome, action=Action.ACCEPT, would=would, decision=decision, per_recipient={})


def _stage(
    policy: Policy,
    stage: Stage,
    facts: Facts,
    points: Mapping[str, float],
    overrides: Sequence[Override],
    base_score: float,
) -> Outcome:
    found = facts.get("found") or {}
    applied = [
        a
        for check in policy.checks
        if (word := found.get(check.name, "none")) != "none" and (a := _word(check, word, points, overrides))
    ]
    score = base_score + sum(a.points for a in applied if not a.observed)
    notes: list[str] = []
    winner, would_rule, score, extra = _rules(policy, stage, facts, score, notes)
    applied += extra
    bounds = limits(policy, overrides) if stage is Stage.MESSAGE or winner else {}
    kept = {name: limit for name, (limit, _) in bounds.items()}
    if winner:
        decision = Decision(f"rule {winner.model.name}", winner.effect.where)
        action = winner.effect.action or Action.ACCEPT
        return Outcome(action, decision, score, winner.model.reply, tuple(applied), action, tuple(notes), limits=kept)
    listed = _listed(policy, facts, overrides) if stage is Stage.MESSAGE else None
    observed = [a for a in applied if a.observed]
    action, decision = _weigh([a for a in applied if not a.observed], score, bounds, listed)
    would = action
    if observed:
        would, _ = _weigh(applied, score + sum(a.points for a in observed), bounds, listed)
    if would_rule:
        would = would_rule.effect.action or would
    reply = next((c.model.reply for c in policy.checks if decision.source == c.source), "")
    return Outcome(action, decision, score, reply, tuple(applied), would, tuple(notes), limits=kept)


def _word(check: Check, word: str, points: Mapping[str, float], overrides: Sequence[Override]) -> Applied | None:
    effect, mode = check.effects.get(word) or check.effects["error"], check.mode
    for override in overrides:
        if other := override.model.checks.get(check.name):
            mode = other.mode or mode
            effect = override.effects.get(check.name, {}).get(word, effect)
    if mode == "off":
        return None
    own = points.get(check.name, 0.0) + effect.points
    return Applied(check.source, word, effect, own, mode == "observe")


def _rules(
    policy: Policy, stage: Stage, facts: Facts, score: float, notes: list[str]
) -> tuple[Rule | None, Rule | None, float, list[Applied]]:
    """The rule that decides, the first observed one that would have, the score after those that only add to it."""
    extra: list[Applied] = []
    would: Rule | None = None
    activation: Any = None
    for rule in policy.rules:
        if rule.stage > stage:
            continue
        if activation is None:
            activation = policy.conditions.activation({**facts, "score": score})
        holds, note = policy.conditions.holds(rule.when, activation)
        if note:
            notes.append(f"rule {rule.model.name}: {note}")
        if not holds or rule.model.mode == "off":
            continue
        observed = rule.model.mode == "observe"
        extra.append(Applied(f"rule {rule.model.name}", "", rule.effect, rule.effect.points, observed))
        if rule.effect.action and not observed:
            return rule, would, score, extra
        would = would or (rule if rule.effect.action else None)
        if not rule.effect.action and not observed:
            score += rule.effect.points
            activation = None
    return None, would, score, extra


def _weigh(
    applied: Iterable[Applied],
    score: float,
    bounds: Mapping[str, tuple[float, str]],
    listed: tuple[str, str, Action] | None,
) -> tuple[Action, Decision]:
    """The heaviest of: the words' actions, the score's limits, the deny list; an allow list lifts what it may."""
    allowed = listed is not None and listed[0] == "allow"
    action, decision = Action.ACCEPT, Decision("default")
    for a in applied:
        other = a.effect.action
        if other is None or other.weight <= action.weight or (allowed and not other.refuses):
            continue
        if a.source.startswith("check "):
            action, decision = other, Decision(a.source, a.effect.where)
    if not allowed:
        for name, (limit, where) in bounds.items():
            if score >= limit and Action(name).weight > action.weight:
                action, decision = Action(name), Decision(f"score {score:.1f} >= {limit:g}", where)
    if listed and not allowed and listed[2].weight > action.weight:
        action, decision = listed[2], Decision("deny list", listed[1])
    if action is Action.ACCEPT and allowed and listed:
        decision = Decision("allow list", listed[1])
    return action, decision


def limits(policy: Policy, overrides: Sequence[Override] = ()) -> dict[str, tuple[float, str]]:
    """The score limits that apply: action to limit and where it stands."""
    found = {name: (limit, where) for name, limit, where in policy.score_limits}
    for override in overrides:
        for name, limit in override.model.score.items():
            found[name] = (limit, policy.where(f"override.{override.number}.score.{name}"))
    return {name: found[name] for name in LIMITS if name in found} if overrides else found


def _overrides(policy: Policy, rcpt: str) -> tuple[Override, ...]:
    """Those that apply to a recipient, weakest first: for ``*``, for its domain, for itself."""
    domain = rcpt.rpartition("@")[2]
    ranked = []
    for n, override in enumerate(policy.overrides):
        names = [name.lower() for name in override.model.recipients]
        rank = 3 if rcpt in names else 2 if domain in names else 1 if "*" in names else 0
        if rank:
            ranked.append((rank, n, override))
    return tuple(override for _, _, override in sorted(ranked, key=lambda item: item[:2]))


def overrides_for(policy: Policy, rcpt: str) -> tuple[Override, ...]:
    """Those that apply to a recipient, weakest first."""
    return _overrides(policy, rcpt.lower())


def _listed(policy: Policy, facts: Facts, overrides: Sequence[Override]) -> tuple[str, str, Action] | None:
    """Where the sender stands on a list: the recipient's own first, then the domain's, then everyone's; on one
    level deny before allow. An allow counts only for a sender that somebody vouches for."""
    for override in reversed(overrides):
        if _denies(override.model.deny, facts):
            return "deny", policy.where(f"override.{override.number}.deny"), Action.JUNK
        if _names(override.model.allow, facts) and vouched(facts):
            return "allow", policy.where(f"override.{override.number}.allow"), Action.ACCEPT
    if _denies(policy.general.deny, facts):
        return "deny", policy.where("policy.deny"), Action.REJECT
    if _names(policy.general.allow, facts) and vouched(facts):
        return "allow", policy.where("policy.allow"), Action.ACCEPT
    return None


def _denies(senders: Iterable[str], facts: Facts) -> bool:
    """Whether the author or the envelope sender is among them: who is not wanted hides behind neither."""
    return bool(senders) and (_names(senders, facts) or _names(senders, facts, "mail_from"))


def _names(senders: Iterable[str], facts: Facts, who: str = "from") -> bool:
    address, domain = facts.get(who, ""), facts.get(f"{who}.domain", "")
    for sender in map(str.lower, senders):
        if address and (sender == address if "@" in sender else domain == sender or domain.endswith("." + sender)):
            return True
    return False


def vouched(facts: Facts) -> bool:
    """Whether DMARC passed (or did before a trusted forwarder had the message), or a signature that fits or an SPF
    pass is for the very domain of From or one above it."""
    found, told, domain = facts.get("found", {}), facts.get("facts", {}), facts.get("from.domain", "")
    if found.get("dmarc") in ("pass", "forwarded"):
        return True
    if not domain:
        return False
    signers = told.get("dkim", {}).get("passed", ()) if found.get("dkim") == "pass" else ()
    senders = (facts.get("mail_from.domain", ""),) if found.get("spf") == "pass" else ()
    return any(d and "." in d and (d == domain or domain.endswith("." + d)) for d in (*signers, *senders))
