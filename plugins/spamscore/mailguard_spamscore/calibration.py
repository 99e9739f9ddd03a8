"""From log-odds to points: where the line for Junk lies, and how it comes down as this server proves itself.

Points are the score in units of the line: ``JUNK_POINTS`` is the line itself, on any day. The line begins high, comes
down as mail is learnt, and comes down all the way only on evidence from mail that was scored as it arrived and then
confirmed: an archive taught at once says little about the scores of tomorrow's mail. Until then the line is the higher
the less wanted mail of the message's own kind was in the archive, higher for strangers than for senders whose mail was
wanted before, and the higher the stranger the message itself. Should local ham score higher than all that, the line
goes up with it: it stays above the scores of all but three thousandths of the local ham, with the tail measured over
the histogram that every confirmed arrival is noted in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

from .kind import PLAIN
from .model import BIN_WIDTH, BINS, Model

JUNK_POINTS = 6.0
UNSURE_POINTS = 3.0
MOST_POINTS = 14.0
LEAST_POINTS = -8.0

COLD_LINE = 4.0
"""With nothing learnt: the rules alone must be this sure."""
SEEN_LINE = 3.4
"""With SPAM_NEEDED spam learnt."""
TAUGHT_LINE = 2.8
"""With HAM_NEEDED ham learnt, too."""
PROVEN_LINE = 1.4
"""With CONFIRMED_NEEDED ham confirmed after arrival, too."""
ARCHIVE_LINE = 2.3
"""With an archive learnt that has ARCHIVE_HAM ham of the message's kind; ARCHIVE_STEP more for each factor of e fewer,
as much less for each factor more."""
ARCHIVE_STEP = 0.42
STRANGER = 0.32
"""So much more for senders whose mail nobody here wanted before."""
STRANGE = 1.9
"""So much more for messages as strange as can be."""
ARCHIVE_HAM = 1000.0
HIGHEST_LINE = 9.0
HAM_NEEDED = 150.0
SPAM_NEEDED = 30.0
CONFIRMED_NEEDED = 250.0
_MEMORY = 4000.0
_TAIL = 0.02
_TAIL_LEAST = 8.0
_ABOVE = 0.003


@dataclass(frozen=True, slots=True)
class Line:
    """The score from which on a message is junk, in log-odds, how many ham and spam it was read off, and from 0 to 1
    how much of what was learnt came from an archive and was not proven yet by mail that arrived."""

    at: float
    ham: int
    spam: int
    doubt: float = 0.0

    def points(self, score: float) -> float:
        """The score in points, ``JUNK_POINTS`` at the line, bounded at both ends."""
        return max(LEAST_POINTS, min(MOST_POINTS, JUNK_POINTS * score / self.at))

    def raised(self, strangeness: float) -> Line:
        """The line for a message of that strangeness, 0 to 1."""
        return replace(self, at=self.at + STRANGE * strangeness) if strangeness else self


def note(model: Model, score: float, label: int) -> None:
    """Counts the score a confirmed arrival had; old counts fade. The caller holds ``model.writing``.

    Scores of the first days are left out of the histogram: they say how it was before anything was known.
    """
    model.counts[5 if label else 3] += 1
    if model.ham < HAM_NEEDED:
        return
    bins = model.spam_bins if label else model.ham_bins
    bins[_bin(score)] += 1.0
    if sum(bins) > _MEMORY:
        for i in range(BINS):
            bins[i] *= 0.5


def floor(ham: float, spam: float, confirmed: float) -> float:
    """The lowest allowed line."""
    seen = min(1.0, max(0.0, spam) / SPAM_NEEDED)
    taught = seen * min(1.0, max(0.0, ham) / HAM_NEEDED)
    proven = taught * min(1.0, max(0.0, confirmed) / CONFIRMED_NEEDED)
    steps = (seen, COLD_LINE - SEEN_LINE), (taught, SEEN_LINE - TAUGHT_LINE), (proven, TAUGHT_LINE - PROVEN_LINE)
    return COLD_LINE - sum(part * step for part, step in steps)


def doubt(archive: float, confirmed: float) -> float:
    """How much of what was learnt is not proven: messages from an ``archive`` are not, until as many ham as it takes
    arrived and stood."""
    return min(1.0, max(0.0, archive) / HAM_NEEDED) * (1 - min(1.0, confirmed / CONFIRMED_NEEDED))


def archive_line(alike: float, spam: float) -> float:
    """The line for what an archive taught, which had so many ham of the message's kind, and so much spam."""
    at = ARCHIVE_LINE - ARCHIVE_STEP * log(max(1.0, alike) / ARCHIVE_HAM)
    return COLD_LINE - min(1.0, max(0.0, spam) / SPAM_NEEDED) * (COLD_LINE - at)


def unproven(shared: Model, personal: Model | None = None) -> float:
    """The doubt about what these models learnt."""
    models = shared, personal or shared
    ham, spam, confirmed, stood = (max([float(model.counts[i]) for model in models]) for i in (0, 1, 3, 5))
    return doubt(ham + spam - confirmed - stood, confirmed)


def line(shared: Model, personal: Model | None = None, kind: int = PLAIN, *, stranger: bool = False) -> Line:
    """The line for an account's mail of a kind, from a ``stranger`` or not: from its own mail once there is enough of
    it, with everybody's before that."""
    own, most = shared, shared
    if personal:
        most = max(shared, personal, key=lambda model: model.ham)
        if personal.counts[3] >= HAM_NEEDED:
            own = personal
    ham, spam = most.ham, max(shared.spam, personal.spam if personal else 0.0)
    if own.tail[0] != own.counts[3]:
        own.tail = float(own.counts[3]), tail(list(own.ham_bins))
    uncertain = unproven(shared, personal)
    at = floor(ham, spam, max(float(shared.counts[3]), float(personal.counts[3]) if personal else 0.0))
    if uncertain:
        archive = archive_line(float(most.kinds[kind]), spam) + STRANGER * stranger
        at += uncertain * (archive - at)
    return Line(max(at, min(HIGHEST_LINE, own.tail[1])), int(ham), int(spam), uncertain)


def tail(bins: Sequence[float]) -> float:
    """The score that three thousandths of the counted ham are expected to lie above, -16.0 while too few are counted.

    Read off an exponential fitted to the uppermost fiftieth: what lies above the line itself is a handful of messages,
    too few to hang it on.
    """
    count = sum(bins)
    left = count * _TAIL
    upper, start = 0.0, BINS
    for i in range(BINS - 1, -1, -1):
        if upper + bins[i] > left:
            break
        if bins[i]:
            upper, start = upper + bins[i], i
    if upper < _TAIL_LEAST:
        return -16.0
    excess = sum(bins[k] * (k - start + 0.5) * BIN_WIDTH for k in range(start, BINS)) / upper
    return (start - BINS // 2) * BIN_WIDTH + excess * max(0.0, log(upper / count / _ABOVE))


def _bin(score: float) -> int:
    return max(0, min(BINS - 1, int(score / BIN_WIDTH + BINS // 2)))
