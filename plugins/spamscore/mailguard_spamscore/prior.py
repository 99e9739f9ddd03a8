"""A model to begin with: trained elsewhere on labelled mail, copied where an office has learnt nothing yet."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterable
from pathlib import Path

from .judge import Judge
from .model import GLOBAL, Model
from .rule import load_rules

_ROUNDS = 2


def train_prior(messages: Iterable[tuple[bytes, int]], target: Path, *, seed: int = 1) -> tuple[int, int]:
    """Trains a model of all on (message, label) pairs in an order drawn by ``seed``, and writes it to ``target``.

    The same messages, seed and version give the same file, octet for octet. It holds hashed weights, and no sample of
    messages. Returns how many ham and spam it was trained on.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists already")
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f"{target.name}.work")
    judge = Judge(work, load_rules(), seed=seed)
    try:
        lessons = [judge.kept(judge.look(raw), label) for raw, label in messages]
        order = random.Random(seed)
        for _ in range(_ROUNDS):
            order.shuffle(lessons)
            for kept in lessons:
                judge.learn(kept)
        counts = int(judge.shared.ham) // _ROUNDS, int(judge.shared.spam) // _ROUNDS
        _forget_messages(judge.shared)
        judge.shared.flush()
    finally:
        judge.close()
    os.replace(work / "global.spam", target)  # noqa: PTH105
    shutil.rmtree(work)
    return counts


def _forget_messages(model: Model) -> None:
    """Empties the rehearsal sample and the counts: what an office knows of its own mail begins at nothing."""
    for number in range(model.layout.slots):
        slot = model.slot(number)
        slot[:] = bytes(len(slot))
    for counts in (model.counts, model.kinds):
        for i in range(len(counts)):
            counts[i] = 0.0


def begin_with(prior: Path, folder: Path) -> bool:
    """Copies a prior into a folder that has no model yet; returns whether it did. Raises OSError, ModelError."""
    target = folder / "global.spam"
    if target.exists():
        return False
    Model(prior, GLOBAL).close()  # raises ModelError where it is none, or for other features
    fresh = folder / f"global.{os.getpid()}.new"
    shutil.copyfile(prior, fresh)
    try:
        os.link(fresh, target)
    except FileExistsError:
        return False  # another worker was first
    finally:
        fresh.unlink()
    return True
