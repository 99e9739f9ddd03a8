"""The filter itself: a message and what is known about it in, a judgement with reasons out; and lessons in."""

from __future__ import annotations

import fcntl
import os
import random
import re
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from .calibration import JUNK_POINTS, UNSURE_POINTS, Line, line, note, unproven
from .index import Indexed, Spoken, index, spoken_numbers
from .kind import KINDS, kind_of
from .learner import Manner, Score, learn_personal, learn_shared, score
from .model import GLOBAL, PERSONAL, Layout, Model, ModelError
from .name import Signals
from .rehearsal import Kept
from .rule import Reason, Rules
from .signal_content import content_signals
from .signal_header import header_signals
from .token import Features, extract

_MAX_OPEN = 64
_MAX_PLACES = 1000
_MOMENT = 1.0  # seconds
_LEAST_PRIOR = 0.4
_DOUBTED_PRIOR = 0.3
_DOUBTED_TAUGHT_PRIOR = 0.6
_PRIOR_HALF = 100.0
_UNSAFE = re.compile(r"[^a-z0-9.@_+=-]")


@dataclass(frozen=True, slots=True)
class Circumstance:
    """What is known beside the message: ``signals`` found by others and ``tokens`` for the personal model, the
    time (Unix), None when it does not matter, and whether it comes from a ``stranger``."""

    signals: Signals = field(default_factory=dict)
    tokens: tuple[bytes, ...] = ()
    now: float | None = None
    stranger: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """A message taken apart once, ready to be scored for several accounts or learnt; ``spoken`` are the numbers of
    its words and word pairs in their order."""

    features: Features
    spoken: Spoken
    numbers: Indexed
    prior: tuple[Reason, ...]
    stranger: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """``points`` in the unit of the policy file (6 is junk), ``word`` spam, unsure or ham, the parts of the score."""

    points: float
    word: str
    score: Score
    line: Line


class Judge:
    """The models of one folder and the rules. Safe for threads, and for several processes on one folder."""

    def __init__(self, folder: Path, rules: Rules, *, seed: int | None = None) -> None:
        self.folder = folder
        self.rules = rules
        self.renewed: list[str] = []
        self.shared = self._model(folder / "global.spam", GLOBAL)
        self._open: OrderedDict[str, Model] = OrderedDict()
        self._places: dict[str, str] = {}
        self._absent: dict[str, float] = {}
        self._lock = Lock()
        self._chance = random.Random(seed)

    def personal(self, account: str, *, create: bool = False) -> Model | None:
        """The model of an account, None when it has none and none is wanted."""
        if not account:
            return None
        with self._lock:
            model = self._open.get(account)
            if model:
                self._open.move_to_end(account)
                return model
            place = self._places.get(account)
            if place is None:
                if len(self._places) > _MAX_PLACES:
                    self._places.clear()
                place = self._places[account] = str(self.path_of(account))
            if not create and not self._is_there(account, place):
                return None
            path = Path(place)
            model = self._open[account] = self._model(path, PERSONAL)
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)  # closed when the last thread lets go of it
            return model

    def _is_there(self, account: str, place: str) -> bool:
        """Whether an account has a model; that it has none is believed for a moment."""
        now = time.monotonic()
        if self._absent.get(account, now) > now:
            return False
        if os.path.exists(place):  # noqa: PTH110 - on the path of every message
            return True
        if len(self._absent) > _MAX_PLACES:
            self._absent.clear()
        self._absent[account] = now + _MOMENT
        return False

    def _model(self, path: Path, layout: Layout) -> Model:
        """The model of a file. One that is damaged or made for other features is set aside, and a new one begun."""
        try:
            return Model(path, layout)
        except ModelError as error:
            self.renewed.append(str(error))
        # Another process may have found the same at the same time: what it has begun must stay.
        with (self.folder / "renewing.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            try:
                return Model(path, layout)
            except ModelError:
                path.replace(path.with_suffix(".old"))
                return Model(path, layout)

    def line(self, account: str = "") -> float:
        """The score (log-odds) from which on a message by itself, in plain text, is junk for an account."""
        return line(self.shared, self.personal(account)).at

    def path_of(self, account: str) -> Path:
        """The model file of an account."""
        name = _UNSAFE.sub(lambda m: f"={ord(m[0]):02x}", account.lower())[:200].lstrip(".")
        return self.folder / "account" / f"{name}.spam"

    def look(self, raw: bytes, circumstance: Circumstance | None = None) -> Seen:
        """Takes a message apart: the same work whether it is scored or learnt."""
        circumstance = circumstance or Circumstance()
        features = extract(raw)
        signals = header_signals(features.tree, circumstance.now)
        signals.update(content_signals(features))
        signals.update(circumstance.signals)
        features.tags += [b"rule:" + name.encode() for name in signals]
        features.local += circumstance.tokens
        prior = tuple(self.rules.weigh(signals, features.words))
        spoken = spoken_numbers(features.words)
        return Seen(features, spoken, index(features, spoken), prior, circumstance.stranger)

    def judge(self, seen: Seen, account: str = "") -> Judgement:
        """The judgement for one account, or for all when none is named."""
        personal = self.personal(account)
        where = line(self.shared, personal, kind_of(seen.numbers), stranger=seen.stranger)
        prior = sum(r.weight for r in seen.prior) * self.prior_share(personal)
        total = score(seen.numbers, self.shared, personal, prior, doubt=where.doubt, line=where.at)
        where = where.raised(total.strangeness)
        points = where.points(total.total)
        word = "spam" if points >= JUNK_POINTS else "unsure" if points >= UNSURE_POINTS else "ham"
        return Judgement(points, word, total, where)

    def kept(self, seen: Seen, label: int, share: float = 1.0) -> Kept:
        """A message as it is learnt and remembered: as spam (1) or ham (0), for everybody at ``share`` of the rate."""
        return Kept(seen.numbers, label, share, sum(r.weight for r in seen.prior))

    def learn(self, kept: Kept, account: str = "", *, arrived: float | None = None, count: bool = True) -> None:
        """One lesson: for the account named at the full rate, for everybody at the share of it. ``arrived`` is the
        score (log-odds) this message had when it arrived, if it did. ``count`` False is for pressing the same
        lesson home: it enters neither counts nor the sample."""
        personal = self.personal(account, create=True) if account else None
        doubt = unproven(self.shared, personal)
        manner = Manner(self.prior_share(personal, taught=True), doubt)
        if personal:
            with personal.writing():
                if arrived is not None:
                    note(personal, arrived, kept.label)
                learn_personal(personal, self.shared, kept, manner, chance=self._chance, count=count)
        if kept.share > 0:
            with self.shared.writing():
                if arrived is not None:
                    note(self.shared, arrived, kept.label)
                learn_shared(self.shared, kept, manner, chance=self._chance, count=count)

    def uncount(self, account: str, label: int, numbers: Indexed) -> None:
        """Takes one message of this label out of the counts: it was relabelled or forgotten."""
        kind = label * len(KINDS) + kind_of(numbers)
        for model in (self.personal(account), self.shared):
            if model:
                with model.writing():
                    model.counts[label] = max(0.0, model.counts[label] - 1)
                    model.kinds[kind] = max(0.0, model.kinds[kind] - 1)

    def clear(self, account: str) -> None:
        """Starts an account's model from nothing; that of all (``""``) if it was taught since it was begun, so that a
        prior it began with stays."""
        model = self.personal(account, create=True) if account else self.shared
        if model and (account or model.counts[2]):
            with model.writing():
                model.clear()

    def prior_share(self, personal: Model | None, *, taught: bool = False) -> float:
        """How much of the rules' weights counts: all while nothing is learnt, less and less as ham and spam are. As
        long as what was learnt is doubted, a lesson (``taught``) leaves more to the rules than a judgement does: what
        an archive happens to have beside them is not learnt in their place, and mail that is new is not junked by them.
        """
        known = min(self.shared.ham, self.shared.spam)
        if personal:
            known = max(known, min(personal.ham, personal.spam))
        doubted = _DOUBTED_TAUGHT_PRIOR if taught else _DOUBTED_PRIOR
        least = _LEAST_PRIOR + (doubted - _LEAST_PRIOR) * unproven(self.shared, personal)
        return least + (1 - least) / (1 + known / _PRIOR_HALF)

    def close(self) -> None:
        """Closes all files."""
        for model in self._open.values():
            model.close()
        self._open.clear()
        self.shared.close()
