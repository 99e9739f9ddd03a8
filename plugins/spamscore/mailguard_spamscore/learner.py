"""Hashed online logistic regressions whose scores add up: a global one for all, a personal one for each account.

The score is in log-odds. The global model sees what any server would see alike (words, tags, 4-grams). The
personal model sees the words again, and the tags together with what is local to this server; it is trained on
the sum of both, so that it learns what the global model gets wrong, and its part is bounded, so that hops and
recipients alone never decide. Each regression has binary features scaled to unit length and AdaGrad steps, and
learns only while a message is on the wrong side or inside a margin.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import exp, sqrt, tanh
from operator import itemgetter

from .index import Indexed
from .model import Model, Table
from .rehearsal import Kept, keep, recall

MARGIN = 3.0
RATE = 0.5
EPSILON = 0.01
PERSONAL_BOUND = 3.0
"""The personal model's part of the score stays within plus and minus this many log-odds."""


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


Group = tuple[Table, list[int], float]


def _groups(model: Model, numbers: Indexed) -> list[Group]:
    tables = model.tables
    if "grams" in tables:
        pairs = [("words", numbers.words), ("tags", numbers.tags), ("grams", numbers.grams)]
    else:
        pairs = [("tags", sorted({*numbers.tags, *numbers.local})), ("words", numbers.words)]
    groups = []
    for name, found in pairs:
        table = tables[name]
        if found and found[-1] > table.mask:
            mask = table.mask
            found = list({i & mask for i in found})
        groups.append((table, found, 1 / sqrt(len(found) or 1)))
    return groups


def _sum(groups: list[Group]) -> float:
    total = 0.0
    for table, found, scale in groups:
        if len(found) > 1:
            total += sum(itemgetter(*found)(table.weights)) * scale
        elif found:
            total += table.weights[found[0]]
    return total if total == total else 0.0  # a damaged weight (NaN) must not decide


def _bounded(value: float) -> float:
    return PERSONAL_BOUND * tanh(value / PERSONAL_BOUND)


def score(numbers: Indexed, shared: Model, personal: Model | None = None, prior: float = 0.0) -> Score:
    """The score of a message. ``prior`` is what the rules say before anything was learnt."""
    common = _sum(_groups(shared, numbers))
    own = _bounded(_sum(_groups(personal, numbers))) if personal else 0.0
    return Score(common, own, prior)


def _step(groups: list[Group], error: float, rate: float) -> None:
    for table, found, scale in groups:
        gradient = error * scale
        square = gradient * gradient
        change = rate * gradient
        weights, sums = table.weights, table.sums
        for i in found:
            total = sums[i] + square
            sums[i] = total
            weights[i] += change / sqrt(total + EPSILON)


def _error(total: float, label: int, margin: float) -> float:
    """How far the probability is off, 0.0 when the message is on its side by the margin."""
    if (total if label else -total) >= margin:
        return 0.0
    return label - 1 / (1 + exp(-max(-30.0, min(30.0, total))))


def _teach_shared(model: Model, kept: Kept, prior: float) -> None:
    groups = _groups(model, kept.numbers)
    error = _error(_sum(groups) + prior, kept.label, MARGIN)
    if error:
        _step(groups, error, RATE * kept.share)


def _teach_personal(model: Model, shared: Model, kept: Kept, prior: float) -> None:
    groups = _groups(model, kept.numbers)
    own = _bounded(_sum(groups))
    error = _error(_sum(_groups(shared, kept.numbers)) + own + prior, kept.label, MARGIN)
    if error:
        _step(groups, error, RATE)


def learn_shared(model: Model, kept: Kept, prior: float = 0.0, *, chance: random.Random, count: bool = True) -> None:
    """One lesson of the global model, and one remembered message rehearsed. The caller holds ``model.writing``."""
    seen = int(model.counts[2])
    _teach_shared(model, kept, prior)
    if not count:
        return
    old = recall(model, seen, chance)
    if old:
        _teach_shared(model, old, 0.0)
    keep(model, kept.numbers, kept.label, kept.share, seen, chance)
    model.counts[kept.label] += 1
    model.counts[2] = seen + 1


def learn_personal(
    model: Model, shared: Model, kept: Kept, prior: float = 0.0, *, chance: random.Random, count: bool = True
) -> None:
    """The same for a personal model. The caller holds its ``writing``."""
    seen = int(model.counts[2])
    _teach_personal(model, shared, kept, prior)
    if not count:
        return
    old = recall(model, seen, chance)
    if old:
        _teach_personal(model, shared, old, 0.0)
    keep(model, kept.numbers, kept.label, kept.share, seen, chance)
    model.counts[kept.label] += 1
    model.counts[2] = seen + 1
