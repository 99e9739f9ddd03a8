"""The table of prior weights (`rules.toml`): how much signals, words and phrases count at first."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from .name import Signals
from .token import words_of


class RuleError(ValueError):
    """The table cannot be used; the text names the file and the entry."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One argument: its part of the score in log-odds (above 0 speaks for junk) and what it is, in words."""

    weight: float
    text: str


@dataclass(frozen=True, slots=True)
class Rules:
    """The loaded table. ``form`` names the signals of mere form. ``phrases`` maps a first word to its phrases (words
    joined by one space), all their words, and weights."""

    signals: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    phrases: Mapping[bytes, tuple[tuple[bytes, frozenset[bytes], float], ...]] = field(default_factory=dict)
    form: frozenset[str] = frozenset()
    text_limit: float = 5.0
    good_limit: float = -4.0
    form_limit: float = 2.4

    def weigh(self, signals: Signals, words: list[bytes]) -> list[Reason]:
        """The prior reasons of a message; their weights are already cut to the limits."""
        reasons: list[Reason] = []
        form: list[Reason] = []
        for name, detail in signals.items():
            weight, text = self.signals.get(name, (0.0, ""))
            if weight:
                (form if name in self.form else reasons).append(Reason(weight, _fill(text, detail)))
        _limit(reasons, self.good_limit)
        _limit(form, self.form_limit)
        said = self.said(words)
        _limit(said, self.text_limit)
        return reasons + form + said

    def said(self, words: list[bytes]) -> list[Reason]:
        """The words and phrases of the table a text contains."""
        there = set(words)
        found = [
            (phrase, weight)
            for word in sorted(self.phrases.keys() & there)
            for phrase, parts, weight in self.phrases[word]
            if parts <= there
        ]
        if not found:
            return []
        line = b" " + b" ".join(words) + b" "
        return [
            Reason(weight, f"it says “{phrase.decode()}”") for phrase, weight in found if b" " + phrase + b" " in line
        ]


def _limit(reasons: list[Reason], limit: float) -> None:
    """Scales reasons of the limit's sign so that they do not add up to more than it."""
    side = [r for r in reasons if r.weight * limit > 0]
    total = sum(r.weight for r in side)
    if abs(total) > abs(limit):
        reasons[:] = [Reason(r.weight * limit / total, r.text) if r in side else r for r in reasons]


def _fill(text: str, detail: tuple[str, ...]) -> str:
    try:
        return text.format(*detail)
    except (IndexError, KeyError, ValueError):
        return text


@cache
def shipped() -> Rules:
    """The shipped table; read once, before the workers are made, so that they share it."""
    return _build(_shipped_table())


def _shipped_table() -> dict[str, Any]:
    return _read("rules.toml", (files(__package__) / "rules.toml").read_text(encoding="utf-8"))


def load_rules(extra: Path | None = None) -> Rules:
    """The shipped table and, after it, the office's own. Raises RuleError."""
    if extra is None:
        return shipped()
    table = _shipped_table()
    try:
        own = _read(str(extra), extra.read_text(encoding="utf-8"))
    except OSError as error:
        raise RuleError(f"{extra}: {error.strerror}") from error
    for section in ("limit", "signal"):
        for name, value in own.get(section, {}).items():
            old = table[section].get(name)
            table[section][name] = {**old, **value} if isinstance(old, dict) else value
    for topic, entries in own.get("text", {}).items():
        table["text"].setdefault(topic, {}).update(entries)
    return _build(table)


def _read(name: str, text: str) -> dict[str, Any]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RuleError(f"{name}: {error}") from error
    for signal, entry in table.get("signal", {}).items():
        weight = entry.get("weight", 0.0) if isinstance(entry, dict) else None
        if not isinstance(weight, int | float) or not abs(weight) <= 100:
            raise RuleError(f"{name}: signal.{signal} needs a weight between -100 and 100")
    for topic, entries in table.get("text", {}).items():
        for phrase, weight in entries.items():
            if not isinstance(weight, int | float) or not abs(weight) <= 100:
                raise RuleError(f"{name}: text.{topic}: {phrase!r} needs a weight between -100 and 100")
    return table


def _build(table: dict[str, Any]) -> Rules:
    signals = {n: (float(e.get("weight", 0.0)), str(e.get("reason", n))) for n, e in table["signal"].items()}
    phrases: dict[bytes, list[tuple[bytes, frozenset[bytes], float]]] = {}
    for entries in table["text"].values():
        for phrase, weight in entries.items():
            words = words_of(phrase.lower().encode())
            if words and weight:
                phrases.setdefault(words[0], []).append((b" ".join(words), frozenset(words), float(weight)))
    limit = table["limit"]
    form = frozenset(name for name, entry in table["signal"].items() if entry.get("form"))
    limits = (float(limit[name]) for name in ("text", "good", "form"))
    return Rules(signals, {w: tuple(p) for w, p in phrases.items()}, form, *limits)
