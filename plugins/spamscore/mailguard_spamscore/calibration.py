"""From log-odds to points: where the line for Junk lies is read off the scores of local ham.

Every lesson first notes the score the message would have got, so the histograms measure the learner on mail it
had not seen. The line is the score that all but one in a thousand of the local ham stay below, plus a margin, and
never below a floor; the floor is high while little is known. Points are the score in units of that line:
``JUNK_POINTS`` is the line itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from .model import BIN_WIDTH, BINS, Model

JUNK_POINTS = 6.0
UNSURE_POINTS = 3.0
MOST_POINTS = 14.0
LEAST_POINTS = -8.0

COLD_LINE = 5.0
WARM_FLOOR = 1.5
HAM_NEEDED = 200.0
SPAM_NEEDED = 50.0
QUANTILE = 0.999
HIGHEST_LINE = 9.0
_MARGIN = 0.25
_MEMORY = 4000.0


@dataclass(frozen=True, slots=True)
class Line:
    """The score from which on a message is junk, in log-odds, and how many ham and spam it was read off."""

    at: float
    ham: int
    spam: int

    def points(self, score: float) -> float:
        """The score in points, ``JUNK_POINTS`` at the line, bounded at both ends."""
        return max(LEAST_POINTS, min(MOST_POINTS, JUNK_POINTS * score / self.at))


def note(model: Model, score: float, label: int) -> None:
    """Counts a score in the model's histogram; old counts fade. The caller holds ``model.writing``."""
    bins = model.spam_bins if label else model.ham_bins
    bins[_bin(score)] += 1.0
    total = sum(bins)
    if total > _MEMORY:
        for i in range(BINS):
            bins[i] *= 0.5


def floor(ham: float, spam: float) -> float:
    """The lowest allowed line: ``COLD_LINE`` with nothing learnt, ``WARM_FLOOR`` once enough is."""
    known = min(1.0, ham / HAM_NEEDED, spam / SPAM_NEEDED)
    return COLD_LINE + (WARM_FLOOR - COLD_LINE) * known


def line(shared: Model, personal: Model | None = None) -> Line:
    """The line for an account: from its own ham once there is enough, with everybody's ham before that."""
    own = sum(personal.ham_bins) if personal else 0.0
    bins = list(personal.ham_bins) if personal and own >= HAM_NEEDED else list(shared.ham_bins)
    ham = max(shared.ham, personal.ham if personal else 0.0)
    spam = max(shared.spam, personal.spam if personal else 0.0)
    at = max(floor(ham, spam), min(HIGHEST_LINE, quantile(bins, QUANTILE) + _MARGIN))
    return Line(at, int(ham), int(spam))


def quantile(bins: list[float], share: float) -> float:
    """The score below which this share of the counts lies (upper edge of its bin), -16.0 without any."""
    left = sum(bins) * (1 - share)
    for i in range(BINS - 1, -1, -1):
        left -= bins[i]
        if left < 0:
            return (i + 1 - BINS // 2) * BIN_WIDTH
    return -BINS // 2 * BIN_WIDTH


def _bin(score: float) -> int:
    return max(0, min(BINS - 1, int(score / BIN_WIDTH + BINS // 2)))
