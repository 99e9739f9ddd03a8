"""Hashed online logistic regressions whose scores add up: a global one for all, a personal one for each account.

The score is in log-odds. The global model sees what any server would see alike (words, tags, 4-grams) and learns on
its own score. The personal model sees the same and what is local to this server; it learns on the sum of both, so
that it takes up what the global model gets wrong, and its part is bounded. Words, tags of the header, tags of what the
text comes in (links, HTML) and 4-grams are a regression each, with binary features scaled to unit length: HTML that
says one thing with two hundred tags says it no louder, and drowns no header. A lesson is one AdaGrad step, taken only
while the message is on the wrong side or inside a margin. After each lesson remembered ones are rehearsed.

Until enough mail was scored as it arrived and confirmed, what was learnt is doubted. Ham weighs more then, most where
an archive has little of it beside the spam of its kind, so that a kind of mail is no evidence by itself; and what was
learnt far from the message at hand weighs less: the more of its tags and local marks no lesson of the account ever had.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from math import exp, sqrt, tanh

from .index import Indexed
from .kind import KINDS, kind_of
from .model import Model, Table
from .rehearsal import Kept, keep, recall

HAM_MARGIN = 2.0
SPAM_MARGIN = 4.0
EPSILON = 0.003
HAM_WEIGHT = 1.7
"""A ham message counts as much as so many spam: what is wrongly junked costs more."""
DOUBTED_HAM_MARGIN, DOUBTED_HAM_WEIGHT = 3.0, 3.0
"""The same as long as what was learnt is doubted: an archive never has enough wanted mail of senders yet to come."""
RARE_HAM = 4.0
"""While doubted, ham weighs up to so many times more where its kind was mostly junk."""
_RARE_COUNT = 20.0
LEFT_OUT = 0.2
"""While doubted, this part of the lessons is taught without words, without tags or without 4-grams, so that none of
them is learnt only as company of the others."""
_LEAVABLE = ((0,), (1, 2), (3,))
SHARED_RATES = (0.35, 0.35, 0.35, 0.35)
PERSONAL_RATES = (0.25, 0.25, 0.25, 0.15)
"""For words, tags of the header, tags of links and make-up, 4-grams."""
PERSONAL_BOUND = 5.0
"""The personal model's part of the score stays within plus and minus this many log-odds."""
OWN_LESSONS = 10
STRANGER_BOUND = 2.0
STRANGER_SHARE = 0.8
"""While an account has fewer than OWN_LESSONS, the global model's part stays within STRANGER_BOUND log-odds and this
share of the line: what others taught never junks its mail without a rule that agrees."""
EARLY = 1000
EARLY_REHEARSALS = 3
REHEARSALS = 2
"""So many remembered messages are rehearsed with each of the first EARLY lessons, and with each later one."""
FAMILIAR = 0.28
STRANGE = 0.53
STRANGE_TAGS, STRANGE_GRAMS = 0.5, 0.83
"""With up to FAMILIAR of its tags new, what was learnt counts in full; from STRANGE on, tags and the personal part
count STRANGE_TAGS and 4-grams STRANGE_GRAMS of that."""


@dataclass(frozen=True, slots=True)
class Score:
    """Log-odds by source. ``total`` is their sum; ``strangeness`` from 0 to 1 is how far the message lies from what was
    learnt, as far as that is doubted."""

    shared: float
    personal: float
    prior: float = 0.0
    strangeness: float = 0.0

    @property
    def total(self) -> float:
        """The sum, in log-odds."""
        return self.shared + self.personal + self.prior


@dataclass(frozen=True, slots=True)
class Manner:
    """How a lesson is taught: the share of the rules' weights that counts, and the doubt about what was learnt."""

    rules: float
    doubt: float = 0.0


class Group:
    """The features of one message in one table: their numbers, and the value each of them has."""

    __slots__ = ("_weights", "found", "rate", "scale", "table")

    def __init__(self, table: Table, found: list[int], rate: float) -> None:
        self.table = table
        self.found = found
        self.scale = 1 / sqrt(len(found) or 1)
        self.rate = rate
        self._weights: tuple[float, ...] | None = None

    def weights(self) -> tuple[float, ...]:
        """The weight of each feature."""
        if self._weights is None:
            self._weights = self.table.at(self.found)
        return self._weights

    def sum(self) -> float:
        """What the table says, in log-odds."""
        total = sum(self.weights()) * self.scale
        return total if total == total else 0.0  # a damaged weight (NaN) must not decide

    def step(self, error: float, share: float) -> None:
        """One AdaGrad step against an error, at a share of the rate."""
        gradient = error * self.scale
        square = gradient * gradient
        change = share * self.rate * gradient
        self._weights = None
        weights, sums = self.table.weights, self.table.sums
        for i in self.found:
            total = sums[i] + square
            sums[i] = total
            weights[i] += change / sqrt(total + EPSILON)


def shared_groups(model: Model, numbers: Indexed) -> list[Group]:
    """The message in the tables of the global model: words, tags of the header, of links and make-up, 4-grams."""
    found = numbers.words, numbers.tags, numbers.dress, numbers.grams
    return list(map(Group, _tables(model), found, SHARED_RATES))


def personal_groups(model: Model, numbers: Indexed) -> list[Group]:
    """The message in the tables of a personal model: as in the global one, and what is local beside the header."""
    found = numbers.words, numbers.tags + numbers.local, numbers.dress, numbers.grams
    return list(map(Group, _tables(model), found, PERSONAL_RATES))


def _tables(model: Model) -> tuple[Table, Table, Table, Table]:
    words, tags, grams = model.tables.values()
    return words, tags, tags, grams


def _sum(groups: list[Group]) -> float:
    return sum([group.sum() for group in groups])


def _bounded(value: float, bound: float = PERSONAL_BOUND) -> float:
    return bound * tanh(value / bound)


def strangeness(tags: Group, dress: Group) -> float:
    """From 0, as familiar as mail learnt from, to 1: how far off a message is by how many of its tags are new."""
    unknown = tags.weights().count(0.0) + dress.weights().count(0.0)
    new = unknown / (len(tags.found) + len(dress.found) or 1)
    return min(1.0, max(0.0, (new - FAMILIAR) / (STRANGE - FAMILIAR)))


def score(
    numbers: Indexed,
    shared: Model,
    personal: Model | None = None,
    prior: float = 0.0,
    *,
    doubt: float = 0.0,
    line: float = STRANGER_BOUND / STRANGER_SHARE,
) -> Score:
    """The score of a message. ``prior`` is what the rules say before anything was learnt; ``doubt`` from 0 to 1 is how
    much strangeness takes away; ``line`` is the score from which on it is junk."""
    groups = shared_groups(shared, numbers)
    words, tags, dress, grams = [group.sum() for group in groups]
    mine = personal_groups(personal, numbers) if personal else groups
    own = _bounded(_sum(mine)) if personal else 0.0
    lost = doubt * strangeness(mine[1], mine[2]) if doubt else 0.0
    if lost:
        trust = 1 - lost * (1 - STRANGE_TAGS)
        tags, dress, own = tags * trust, dress * trust, own * trust
        grams *= 1 - lost * (1 - STRANGE_GRAMS)
    common = words + tags + dress + grams
    if personal is None or personal.counts[2] < OWN_LESSONS:
        common = _bounded(common, min(STRANGER_BOUND, STRANGER_SHARE * line))
    return Score(common, own, prior, lost)


def rarity(model: Model, kind: int) -> float:
    """How many times more spam than ham a kind of mail has, beside all mail learnt; from 1 to RARE_HAM."""
    ham, spam = model.kinds[kind] + _RARE_COUNT, model.kinds[len(KINDS) + kind] + _RARE_COUNT
    return max(1.0, min(RARE_HAM, spam / ham * (model.ham + _RARE_COUNT) / (model.spam + _RARE_COUNT)))


def _error(model: Model, total: float, kept: Kept, doubt: float) -> float:
    """How far the probability is off, 0.0 when the message is on its side by the margin."""
    if kept.label:
        return 0.0 if total >= SPAM_MARGIN else 1 / (1 + exp(max(-30.0, total)))
    if -total >= HAM_MARGIN + doubt * (DOUBTED_HAM_MARGIN - HAM_MARGIN):
        return 0.0
    weight = HAM_WEIGHT + doubt * (DOUBTED_HAM_WEIGHT - HAM_WEIGHT)
    if doubt:
        weight *= rarity(model, kind_of(kept.numbers)) ** doubt
    return -weight / (1 + exp(-min(30.0, total)))


def _step(groups: list[Group], error: float, share: float) -> bool:
    if error:
        for group in groups:
            group.step(error, share)
    return bool(error)


def _left_out(doubt: float, chance: random.Random) -> tuple[int, ...]:
    """The places of the groups that one lesson does without."""
    return chance.choice(_LEAVABLE) if doubt and chance.random() < doubt * LEFT_OUT else ()


def _without(groups: list[Group], left_out: tuple[int, ...]) -> list[Group]:
    return [group for i, group in enumerate(groups) if i not in left_out] if left_out else groups


def _teach_shared(model: Model, kept: Kept, manner: Manner, chance: random.Random) -> bool:
    groups = _without(shared_groups(model, kept.numbers), _left_out(manner.doubt, chance))
    total = _sum(groups) + kept.prior * manner.rules
    return _step(groups, _error(model, total, kept, manner.doubt), kept.share)


def _teach_personal(model: Model, shared: Model, kept: Kept, manner: Manner, chance: random.Random) -> bool:
    left_out = _left_out(manner.doubt, chance)
    groups = _without(personal_groups(model, kept.numbers), left_out)
    others = _sum(_without(shared_groups(shared, kept.numbers), left_out)) + kept.prior * manner.rules
    return _step(groups, _error(model, others + _bounded(_sum(groups)), kept, manner.doubt), 1.0)


def _remember(model: Model, kept: Kept, chance: random.Random, *, news: bool) -> list[Kept]:
    """Counts a lesson and draws those to rehearse with it. Only a message that had something to teach is taken into
    the sample: the others are what the model knows anyway."""
    lessons, held = int(model.counts[2]), int(model.counts[4])
    drawn = [recall(model, held, chance) for _ in range(EARLY_REHEARSALS if lessons < EARLY else REHEARSALS)]
    if news:
        keep(model, kept, held, chance)
        model.counts[4] = held + 1
    model.counts[kept.label] += 1
    model.kinds[kept.label * len(KINDS) + kind_of(kept.numbers)] += 1
    model.counts[2] = lessons + 1
    return [old for old in drawn if old]


def learn_shared(model: Model, kept: Kept, manner: Manner, *, chance: random.Random, count: bool = True) -> None:
    """One lesson of the global model. The caller holds ``model.writing``."""
    news = _teach_shared(model, kept, manner, chance)
    for old in _remember(model, kept, chance, news=news) if count else ():
        _teach_shared(model, old, manner, chance)


def learn_personal(
    model: Model, shared: Model, kept: Kept, manner: Manner, *, chance: random.Random, count: bool = True
) -> None:
    """The same for a personal model. The caller holds its ``writing``."""
    news = _teach_personal(model, shared, kept, manner, chance)
    for old in _remember(model, kept, chance, news=news) if count else ():
        _teach_personal(model, shared, old, manner, chance)
