"""What the policy makes of the findings: an action, its reply, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from mailguard.model.reply import Reply
from mailguard.pipeline.finding import Findings


class Action(Enum):
    """What happens to a message. ``weight`` orders them: among several that apply, the heaviest wins (0 is accept);
    ``refuses`` says whether the client hears a 4xx or 5xx."""

    weight: int
    refuses: bool

    ACCEPT = "accept"
    JUNK = "junk"  # delivered to the Junk mailbox
    QUARANTINE = "quarantine"  # held, to be released or dropped by the postmaster
    DISCARD = "discard"  # answered 250 and dropped: for what must not be answered
    DEFER = "defer"  # 4xx
    REJECT = "reject"  # 5xx

    def __init__(self, _word: str) -> None:
        self.weight = len(type(self).__members__)
        self.refuses = self.value in ("defer", "reject")


@dataclass(frozen=True, slots=True)
class Decision:
    """Why the action is what it is: ``source`` names the rule, check or score limit, ``where`` is
    ``policy.toml:LINE``."""

    source: str
    where: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one stage, or of the whole message.

    ``reply`` is what the client hears if the action refuses (else None); ``score`` the sum of points so far;
    ``would`` what would have happened if everything in observe mode were enforced; ``per_recipient`` holds actions
    that differ for single recipients, by address key; ``reasons`` are what added to the score, heaviest first.
    """

    action: Action
    reply: Reply | None = None
    score: float = 0.0
    findings: Findings = field(default_factory=Findings)
    decision: Decision = Decision("default")
    would: Action = Action.ACCEPT
    per_recipient: dict[str, Action] = field(default_factory=dict)
    reasons: tuple[tuple[float, str], ...] = ()

    def action_for(self, address_key: str) -> Action:
        """The action for one recipient."""
        return self.per_recipient.get(address_key, self.action)
