"""Verdict records told in sentences: what happened, why, which line decided, what would have changed it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mailguard.pipeline.decide import vouched
from mailguard.pipeline.inspection import SERVER
from mailguard.pipeline.verdict import Action
from mailguard.state.record import Record

_DONE = {
    "accept": "It was accepted",
    "junk": "It was delivered to Junk",
    "quarantine": "It was held in quarantine",
    "discard": "It was accepted and thrown away",
    "defer": "It was put off",
    "reject": "It was refused",
}
_WOULD = {
    "accept": "been accepted",
    "junk": "gone to Junk",
    "quarantine": "been held in quarantine",
    "discard": "been thrown away",
    "defer": "been put off",
    "reject": "been refused",
}
_LATER = {
    "stored": "stored for {who}: {text}",
    "delivered": "delivered to {who}: {text}",
    "deferred": "not yet delivered to {who}: {text}",
    "bounced": "returned to its sender, {who} could not be reached: {text}",
    "held": "held: {text}",
    "forwarded": "sent on by {who}'s wish to {text}",
    "answered": "{who} is out of office, and told {text}",
    "not answered": "{who} is out of office, but did not tell: {text}",
    "moved": "moved by {who}: {text}",
    "released": "released from quarantine by the postmaster, and learnt as wanted",
    "dropped": "dropped from quarantine by the postmaster",
}


@dataclass(frozen=True, slots=True)
class Weighed:
    """One effect as recorded: ``source`` such as ``check spf``, the word, the effect's text, points, its line."""

    source: str
    word: str
    effect: str
    points: float
    where: str
    observed: bool

    @property
    def action(self) -> Action | None:
        """The action it called for, None for points."""
        return None if self.effect.startswith("score") else Action(self.effect)


def weighed(record: Record) -> list[Weighed]:
    """The effects of a record."""
    return [Weighed(*item) for item in record.data.get("applied", ())]


def explain(record: Record, *, clock: Callable[[float], str] | None = None) -> str:
    """The whole story of one record, several lines."""
    clock = clock or _utc
    return "\n".join(_lines(record, clock))


def summary(record: Record) -> str:
    """One sentence: what was done and why."""
    done = _DONE[record.action]
    if record.stage == "client":
        done = done.replace("It", "The connection")
    elif record.stage == "sender":
        done = done.replace("It", "The sender")
    elif record.stage == "recipient":
        done = done.replace("It", f"The recipient {' '.join(record.rcpt)}")
    return f"{done} {_because(record)}."


def _lines(record: Record, clock: Callable[[float], str]) -> Iterator[str]:
    facts = record.data.get("facts", {})
    yield f"{record.id}  {clock(record.at)}"
    host = facts.get("client.ptr") or facts.get("helo") or "no name"
    yield f"  from {record.mail_from or '<>'} to {', '.join(record.rcpt) or '(no recipient yet)'}"
    via = f", signed in as {record.account}" if record.account else ""
    yield f"  by {record.peer_ip} ({host}){via}" + (f", {record.size} octets" if record.size else "")
    if record.stage == "message":
        yield f"  author {record.author or '(none)'}, subject: {record.subject or '(none)'}"
    yield ""
    yield summary(record)
    if record.reply:
        yield f"The client was told: {record.reply}"
    if (would := record.data.get("would", record.action)) != record.action:
        yield f"With everything in observe mode enforced it would have {_WOULD[would]}."
    for rcpt, action in record.data.get("per_recipient", {}).items():
        yield (
            f"For {rcpt} it would have {_WOULD[action]}."
            if Action(action).refuses
            else (f"For {rcpt}: {_DONE[action][3:]}.")
        )
    yield from _findings(record)
    yield from _changes(record)
    if advice := list(remedies(record)):
        yield ""
        yield "To have such mail treated otherwise:"
        yield from (f"  {line}" for line in advice)
    if record.events:
        yield ""
        yield "Later:"
        yield from (f"  {clock(e.at)}  {_LATER.get(e.kind, e.kind).format(who=e.who, text=e.text)}"
                    for e in record.events)  # fmt: skip


def _because(record: Record) -> str:
    source, where = record.decision, record.place
    line = f" ({where})" if where else ""
    kind, _, name = source.partition(" ")
    if source == SERVER:
        said = record.reply.split(" ", 2)[2:]  # without the codes
        return ": ".join(["by the server itself, no policy was asked", *said])
    if source == "default":
        return "because nothing spoke against it"
    if kind == "check":
        found = record.data.get("findings", {}).get(name, {})
        reason = f": {found['reason']}" if found.get("reason") else ""
        return f'because the check {name} found "{found.get("word", "?")}"{reason}{line}'
    if kind == "rule":
        return f'because the rule "{name}" holds{line}'
    if kind == "score":
        limit = source.rpartition(" ")[2]
        return f"because its score of {record.score:.1f} reached the limit of {limit}{line}"
    if source in ("allow list", "deny list"):
        return f"because its author is on the {source}{line}"
    return f"in {source}{line}"


def _findings(record: Record) -> Iterator[str]:
    findings: Mapping[str, Any] = record.data.get("findings", {})
    if not findings:
        return
    by_name = {w.source.removeprefix("check "): w for w in weighed(record)}
    yield ""
    yield f"What was found (score {record.score:.1f}):"
    order = sorted(findings, key=lambda name: -abs(by_name[name].points) if name in by_name else 0)
    for name in order:
        yield from _finding(name, findings[name], by_name.get(name))
    for w in weighed(record):
        if w.source.startswith("rule "):
            yield f'  {_points(w)}  the rule "{w.source[5:]}" holds: {w.effect} ({w.where})'
    for note in record.data.get("notes", ()):
        yield f"         not evaluated: {note}"


def _finding(name: str, found: Mapping[str, Any], effect: Weighed | None) -> Iterator[str]:
    reason = f": {found['reason']}" if found.get("reason") else ""
    took = f", {found['ms']:.1f} ms" if found.get("ms") is not None else ""
    says = f" -> {effect.effect} ({effect.where}{', observed only' if effect.observed else ''})" if effect else ""
    yield f'  {_points(effect)}  {name} found "{found["word"]}"{reason}{says}{took}'
    if found.get("detail"):
        yield f"            {found['detail']}"
    for value, text in found.get("reasons", ())[:5]:
        yield f"            {value:+.1f}  {text}"


def _points(effect: Weighed | None) -> str:
    return f"{effect.points:+5.1f}" if effect is not None and effect.points else "     "


def _changes(record: Record) -> Iterator[str]:
    changes = list(what_if(record))
    if changes:
        yield ""
        yield "What would have changed it:"
        yield from (f"  {change}" for change in changes)


def what_if(record: Record) -> Iterator[str]:
    """Single changes that would have led to another action, from what the record holds."""
    effects = [w for w in weighed(record) if not w.observed]
    limits: Mapping[str, float] = record.data.get("limits", {})
    kind = record.decision.partition(" ")[0]
    if record.action == "accept" and kind != "rule":
        yield from _near(record, limits)
        return
    if record.decision == SERVER:
        return
    if kind == "allow":
        other = settle(effects, limits)
        if other is not Action.ACCEPT:
            yield f"without the allow list it would have {_WOULD[other.value]}"
        return
    if kind == "deny":
        yield f"without the deny list it would have {_WOULD[settle(effects, limits).value]}"
        return
    if kind == "rule":
        rest = [w for w in effects if w.source != record.decision]
        other = settle(rest, limits)
        if other.value != record.action:
            yield f"without this rule it would have {_WOULD[other.value]}"
        return
    for w in effects:
        other = settle([e for e in effects if e is not w], limits)
        if other.value != record.action:
            what = f'had {w.source[6:]} not found "{w.word}"' if w.word else f"without the {w.source}"
            left = sum(e.points for e in effects if e is not w)
            note = f" (score {left:.1f})" if w.points else ""
            yield f"{what}, it would have {_WOULD[other.value]}{note}"
    if kind == "score":
        limit = float(record.decision.rpartition(" ")[2])
        below = settle([e for e in effects if e.action], {n: x for n, x in limits.items() if x < limit})
        yield f"with more than {max(record.score - limit, 0):.1f} points less it would have {_WOULD[below.value]}"
    yield from _allowed(record, effects)


def _allowed(record: Record, effects: list[Weighed]) -> Iterator[str]:
    """What an allow list would have done: it lifts everything but refusals by checks, if somebody vouches."""
    if record.stage != "message" or not record.author:
        return
    other = settle([w for w in effects if w.action and w.action.refuses], {})
    if other.value == record.action:
        return
    if vouched(record.data.get("facts", {})):
        yield f"with {record.author} on an allow list it would have {_WOULD[other.value]}"
    else:
        yield f"an allow list would not have helped: neither DMARC, DKIM nor SPF vouches for {record.author}"


def remedies(record: Record) -> Iterator[str]:
    """What to change in the policy file to have such mail treated otherwise."""
    kind, _, name = record.decision.partition(" ")
    if record.stage == "message" and record.author and not record.account:
        if record.action == "accept" and kind in ("default", "allow"):
            yield f"mailguard policy deny {record.author}    (--for RECIPIENT: to that one's Junk)"
            return
        told = next(_allowed(record, [w for w in weighed(record) if not w.observed]), "")
        if told.startswith("with "):
            yield f"mailguard policy allow {record.author}    (--for RECIPIENT: for that one alone)"
    if kind == "check":
        word = record.data.get("findings", {}).get(name, {}).get("word", "?")
        yield f'on = {{ {word} = "score 1" }} in the [[check]] {name}, or mode = "observe" to watch it for a while'
    elif kind == "score":
        yield f"another limit in [score] ({record.place}), or other points for what was found"
    elif kind == "rule":
        yield f'mode = "observe" or another condition in the rule "{name}" ({record.place})'


def _near(record: Record, limits: Mapping[str, float]) -> Iterator[str]:
    above = sorted((limit, name) for name, limit in limits.items() if limit > record.score)
    if above and record.score > 0:
        limit, name = above[0]
        yield f"{limit - record.score:.1f} more points and it would have {_WOULD[name]} (limit {limit:g})"


def settle(effects: list[Weighed], limits: Mapping[str, float]) -> Action:
    """What effects and limits lead to, lists and rules left aside."""
    score = sum(w.points for w in effects)
    actions = [w.action for w in effects if w.action is not None]
    actions += [Action(name) for name, limit in limits.items() if score >= limit]
    return max(actions, key=lambda action: action.weight, default=Action.ACCEPT)


def _utc(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
