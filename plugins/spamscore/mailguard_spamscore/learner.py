"""Hashed online logistic regressions whose scores add up: a global one for all, a personal one for each account.

The score is in log-odds. The global model sees what any server would see alike (words, tags, 4-grams) and learns on
its own score. The personal model sees the same and what is local to this server; it learns on the sum of both, so
that it takes up what the global model gets wrong, and its part is bounded. Each table is a regression of its own with
binary features scaled to unit length; a lesson is one AdaGrad step, taken only while the message is on the wrong side
or inside a margin. After each lesson remembered ones are rehearsed.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import exp, sqrt, tanh
from operator import itemgetter

from .index import Indexed
from .model import Model, Table
from .rehearsal import Kept, keep, recall

HAM_MARGIN = 2.0
SPAM_MARGIN = 3.0
EPSILON = 0.01
HAM_WEIGHT = 1.7
"""A ham message counts as much as so many spam: what is wrongly junked costs more."""
SHARED_RATES = {"words": 0.35, "tags": 0.35, "grams": 0.35}
PERSONAL_RATES = {"words": 0.25, "tags": 0.25, "grams": 0.15}
PERSONAL_BOUND = 5.0
"""The personal model's part of the score stays within plus and minus this many log-odds."""
STRANGER_BOUND = 2.0
OWN_LESSONS = 10
"""While an account has fewer lessons of its own, the global model's part stays within STRANGER_BOUND: below any line,
so that what others taught never junks its mail without a rule that agrees."""
EARLY = 1000
EARLY_REHEARSALS = 3
REHEARSALS = 1
"""So many remembered messages are rehearsed with each of the first EARLY lessons, and with each later one."""


@dataclass(frozen=True, slots=True)
class Score:
    """Log-odds by source. ``total`` is their sum."""

    shared: float
    personal: float
    prior: float = 0.0

    @property
    def total(self) -> float:
        """The sum, in log-odds."""
        return self.shared + self.personal + self.prior


@dataclass(slots=True)
class Group:
    """The features of one message in one table: their numbers, and the value each of them has."""

    table: Table
    found: list[int]
    scale: float
    rate: float


def _groups(model: Model, numbers: Indexed, rates: dict[str, float], *, local: bool) -> list[Group]:
    groups = []
    for name, table in model.tables.items():
        found: list[int] = getattr(numbers, name)
        if local and name == "tags":
            found = list({*found, *numbers.local})
        if table.narrow:
            mask = table.mask
            found = [number & mask for number in found]
        groups.append(Group(table, found, 1 / sqrt(len(found) or 1), rates[name]))
    return groups


def shared_groups(model: Model, numbers: Indexed) -> list[Group]:
    """The message in the tables of the global model."""
    return _groups(model, numbers, SHARED_RATES, local=False)


def personal_groups(model: Model, numbers: Indexed) -> list[Group]:
    """The message in the tables of a personal model."""
    return _groups(model, numbers, PERSONAL_RATES, local=True)


def _sum(groups: list[Group]) -> float:
    total = 0.0
    for group in groups:
        found, weights = group.found, group.table.weights
        if len(found) > 1:
            total += sum(itemgetter(*found)(weights)) * group.scale
        elif found:
            total += weights[found[0]]
    return total if total == total else 0.0  # a damaged weight (NaN) must not decide


def _bounded(value: float, bound: float = PERSONAL_BOUND) -> float:
    return bound * tanh(value / bound)


def score(numbers: Indexed, shared: Model, personal: Model | None = None, prior: float = 0.0) -> Score:
    """The score of a message. ``prior`` is what the rules say before anything was learnt."""
    common = _sum(shared_groups(shared, numbers))
    if personal is None or personal.counts[2] < OWN_LESSONS:
        common = _bounded(common, STRANGER_BOUND)
    own = _bounded(_sum(personal_groups(personal, numbers))) if personal else 0.0
    return Score(common, own, prior)


def _step(groups: list[Group], error: float, share: float) -> None:
    for group in groups:
        gradient = error * group.scale
        square = gradient * gradient
        change = share * group.rate * gradient
        weights, sums = group.table.weights, group.table.sums
        for i in group.found:
            total = sums[i] + square
            sums[i] = total
            weights[i] += change / sqrt(total + EPSILON)


def _error(total: float, label: int) -> float:
    """How far the probability is off, 0.0 when the message is on its side by the margin."""
    if (total if label else -total) >= (SPAM_MARGIN if label else HAM_MARGIN):
        return 0.0
    spam = 1 / (1 + exp(-max(-30.0, min(30.0, total))))
    return 1 - spam if label else -spam * HAM_WEIGHT


def _teach_shared(model: Model, kept: Kept, weight: float) -> bool:
    groups = shared_groups(model, kept.numbers)
    error = _error(_sum(groups) + kept.prior * weight, kept.label)
    if error:
        _step(groups, error, kept.share)
    return bool(error)


def _teach_personal(model: Model, shared: Model, kept: Kept, weight: float) -> bool:
    groups = personal_groups(model, kept.numbers)
    others = _sum(shared_groups(shared, kept.numbers)) + kept.prior * weight
    error = _error(others + _bounded(_sum(groups)), kept.label)
    if error:
        _step(groups, error, 1.0)
    return bool(error)


def _remember(model: Model, kept: Kept, chance: random.Random, *, news: bool) -> list[Kept]:
    """Counts a lesson and draws those to rehearse with it. Only a message that had something to teach is taken into
    the sample: the others are what the model knows anyway."""
    lessons, held = int(model.counts[2]), int(model.counts[4])
    drawn = [recall(model, held, chance) for _ in range(EARLY_REHEARSALS if lessons < EARLY else REHEARSALS)]
    if news:
        keep(model, kept, held, chance)
        model.counts[4] = held + 1
    model.counts[kept.label] += 1
    model.counts[2] = lessons + 1
    return [old for old in drawn if old]


def learn_shared(model: Model, kept: Kept, weight: float, *, chance: random.Random, count: bool = True) -> None:
    """One lesson of the global model; ``weight`` is that of the rules. The caller holds ``model.writing``."""
    news = _teach_shared(model, kept, weight)
    for old in _remember(model, kept, chance, news=news) if count else ():
        _teach_shared(model, old, weight)


def learn_personal(
    model: Model, shared: Model, kept: Kept, weight: float, *, chance: random.Random, count: bool = True
) -> None:
    """The same for a personal model. The caller holds its ``writing``."""
    news = _teach_personal(model, shared, kept, weight)
    for old in _remember(model, kept, chance, news=news) if count else ():
        _teach_personal(model, shared, old, weight)
