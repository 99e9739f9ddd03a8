"""Checks that wait for nothing but the DNS: called at once; what they miss is asked for, then they are called again.

No thread changes hands for it: the session waits for the answers itself, of all checks of a wave together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from mailguard.net.resolver import DnsTemporaryError, Resolver, ask_all
from mailguard.pipeline.pool import CallTime, Found, NotAtHandError, Question

ROUNDS = 4  # calls of a check; one that still misses answers then may wait for them on a thread of its own

_Call = Callable[[], Any]
_AnyCall = TypeVar("_AnyCall", bound=_Call)
_Missing = dict[Question, float]


class Rounds:
    """Calls checks of one worker; ``resolver`` is what their questions are asked of between two rounds."""

    def __init__(self, time_: CallTime, resolver: Resolver | None) -> None:
        self._time = time_
        self._resolver = resolver

    def made(self, calls: Sequence[_AnyCall], *, ask: bool) -> dict[_AnyCall, _Call]:
        """What came of these calls, as calls that give or raise it; without those that may not wait for what they
        miss: where nothing is asked (``ask``), or after too many rounds."""
        found: dict[_AnyCall, _Call] = {}
        answers: dict[_AnyCall, dict[Question, Found]] = {call: {} for call in calls}
        rounds = ROUNDS if ask and self._resolver is not None else 1
        for turn in range(rounds):
            missing: dict[_AnyCall, _Missing] = {}
            for call in [call for call in calls if call not in found]:
                made, missed = self._call(call, answers[call])
                if missed:
                    missing[call] = missed
                else:
                    found[call] = made
            if not missing or turn == rounds - 1:
                break
            self._ask(missing, answers)
        return found

    def _call(self, call: _Call, answers: Mapping[Question, Found]) -> tuple[_Call, _Missing]:
        missing: _Missing = {}
        self._time.answers, self._time.missing = answers, missing
        try:
            value = call()
            made: _Call = lambda: value  # noqa: E731
        except (Exception, NotAtHandError) as error:
            made = partial(_raise, error)
        finally:
            self._time.answers = None
        return made, missing

    def _ask(self, missing: Mapping[_AnyCall, _Missing], answers: Mapping[_AnyCall, dict[Question, Found]]) -> None:
        """Asks what is missing, for as long as the most hurried check can wait. One with more time that got no answer
        then asks again in its next round."""
        assert self._resolver is not None
        questions = list(dict.fromkeys(question for missed in missing.values() for question in missed))
        seconds = min(left for missed in missing.values() for left in missed.values())
        began = time.monotonic()
        found = dict(zip(questions, ask_all(self._resolver, questions, timeout=seconds), strict=True))
        cut = time.monotonic() - began >= seconds * 0.95
        for call, missed in missing.items():
            for question, left in missed.items():
                answer = found[question]
                if not (cut and left > seconds and isinstance(answer, DnsTemporaryError)):
                    answers[call][question] = answer


def _raise(error: BaseException) -> None:
    raise error
