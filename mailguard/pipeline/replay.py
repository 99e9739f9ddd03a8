"""A policy tried on facts: its own tests, and verdicts of the past decided anew without asking anybody."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mailguard.pipeline.decide import Outcome, decide
from mailguard.pipeline.facts import Facts, Stage, complete
from mailguard.pipeline.inspection import SERVER
from mailguard.pipeline.policy import Policy
from mailguard.pipeline.schema import TestModel
from mailguard.pipeline.source import flatten
from mailguard.state.record import Record


@dataclass(frozen=True, slots=True)
class TestResult:
    """How one ``[[test]]`` ended; ``wrong`` says what differs, ``""`` if nothing does."""

    __test__ = False  # no test class for pytest
    name: str
    where: str
    outcome: Outcome
    wrong: str = ""


@dataclass(frozen=True, slots=True)
class Flip:
    """A message whose fate the other policy would change; ``why`` is the source of the new decision."""

    record: Record
    before: str
    after: str
    why: str


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay found: how many records, the flips by sender, most first, and the checks that the other policy
    has and that found nothing in any of them (they were not there, so nobody knows what they would have found)."""

    count: int
    flips: Mapping[str, tuple[Flip, ...]]
    unknown: tuple[str, ...] = ()


def run_tests(policy: Policy) -> list[TestResult]:
    """Runs the policy's own tests. Rules and checks in observe mode count as such."""
    return [_run_test(policy, n, test) for n, test in enumerate(policy.tests)]


def _run_test(policy: Policy, n: int, test: TestModel) -> TestResult:
    where = policy.where(f"test.{n}")
    outcome = decide_test(policy, test)
    wrong = ""
    if outcome.action.value != test.expect:
        wrong = f"expected {test.expect}, got {outcome.action.value} by {outcome.decision.source}"
        wrong += f" ({outcome.decision.where})" if outcome.decision.where else ""
    elif test.rule and outcome.decision.source != f"rule {test.rule}":
        wrong = f"{outcome.action.value}, but by {outcome.decision.source} and not by rule {test.rule}"
    return TestResult(test.name, where, outcome, wrong)


def decide_test(policy: Policy, test: TestModel) -> Outcome:
    """What the policy makes of a test's facts; a refusal at an earlier stage counts."""
    facts = test_facts(test.facts)
    points = {"test": float(facts.pop("score", 0.0))}
    for stage in Stage:
        outcome = decide(policy, stage, facts, points, base_score=points["test"])
        if outcome.action.refuses:
            return outcome
    return outcome


def test_facts(given: Mapping[str, Any]) -> Facts:
    """A test's table as facts."""
    mappings = {key: value for key, value in given.items() if key in ("found", "facts", "header")}
    rest = {key: value for key, value in given.items() if key not in mappings}
    return complete({**dict(flatten(rest)), **mappings})


test_facts.__test__ = False  # type: ignore[attr-defined]


def replay(policy: Policy, records: Iterable[Record]) -> Replay:
    """Decides every record anew; the sender is the author where there is one, else the envelope's."""
    flips: dict[str, list[Flip]] = defaultdict(list)
    unknown = {check.name: None for check in policy.checks}
    count = 0
    for record in records:
        if record.decision == SERVER:
            continue  # no policy was asked
        count += 1
        points = {name: found.get("points", 0.0) for name, found in record.data.get("findings", {}).items()}
        for name in [name for name in unknown if name in record.data.get("times", {}) or name in points]:
            del unknown[name]
        outcome = decide(policy, Stage[record.stage.upper()], record.data["facts"], points)
        if fates := _differ(record, outcome):
            sender = record.author or record.mail_from or record.peer_ip
            flips[sender].append(Flip(record, *fates, outcome.decision.source))
    ordered = sorted(flips.items(), key=lambda item: (-len(item[1]), item[0]))
    return Replay(count, {sender: tuple(found) for sender, found in ordered}, tuple(unknown) if count else ())


def _differ(record: Record, outcome: Outcome) -> tuple[str, str] | None:
    """Action before and after where they differ, for all or for the first recipient whose fate does; else None."""
    if outcome.action.value != record.action:
        return record.action, outcome.action.value
    before, after = record.data.get("per_recipient", {}), outcome.per_recipient
    for rcpt in {**before, **after} if before or after else ():
        old = before.get(rcpt, record.action)
        new = after[rcpt].value if rcpt in after else outcome.action.value
        if old != new:
            return f"{old} for {rcpt}", new
    return None
