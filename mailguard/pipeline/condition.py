"""Conditions of the policy: CEL, type-checked when the file is loaded, never an error when they run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from mailguard.pipeline.facts import FACTS, Facts, Stage
from mailguard.pipeline.source import did_you_mean

_REPORT = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
_OVERLOAD = re.compile(r"found no matching overload for '([^']*)' applied to '(.*)'")
_MIXED = re.compile(r"\((?:double, int|int, double)\)")
_INDEX = re.compile(r"""\b(found|facts|header)\s*\[\s*(?:"([^"\\]*)"|'([^'\\]*)')\s*\]""")
_STRING = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'""")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


class ConditionError(ValueError):
    """A condition that cannot be used: ``line`` and ``column`` from 1 within it, ``suggestion`` or ``""``."""

    def __init__(self, text: str, line: int, column: int, suggestion: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.line = line
        self.column = column
        self.suggestion = suggestion


@dataclass(frozen=True, slots=True)
class Condition:
    """A compiled condition; ``names`` are the facts it reads, ``keys`` the literal keys of ``found["x"]`` and the
    like, as ``("found", "x", offset)``."""

    text: str
    names: frozenset[str]
    keys: tuple[tuple[str, str, int], ...]
    program: Any

    @property
    def plugins(self) -> frozenset[str]:
        """The plugins whose findings it reads."""
        return frozenset(key for kind, key, _ in self.keys if kind in ("found", "facts"))

    @property
    def headers(self) -> frozenset[str]:
        """The header fields it reads, in lower case."""
        return frozenset(key.lower() for kind, key, _ in self.keys if kind == "header")

    @property
    def stage(self) -> Stage:
        """The first stage at which all the facts it reads are known (findings left aside)."""
        return max((FACTS[name].stage for name in self.names), default=Stage.CLIENT)


class Conditions:
    """Compiles and evaluates conditions; one for each loaded policy."""

    def __init__(self) -> None:
        self.plugins: set[str] = set()
        self.headers: set[str] = set()

    def compile(self, text: str) -> Condition:
        """The condition, which must be a bool. Raises ConditionError with the first mistake."""
        try:
            program = _environment("double").compile(text)
        except RuntimeError as error:
            program = self._retry(text, error)
        if program.return_type() != _cel().Type.BOOL:
            raise ConditionError(f"the condition is of type {program.return_type().name().lower()}, not bool", 1, 1)
        bare = _STRING.sub(lambda m: " " * len(m[0]), text)
        names = frozenset(name for match in _NAME.finditer(bare) if (name := _fact(match[0])))
        keys = tuple((m[1], m[2] if m[2] is not None else m[3], m.start(2 if m[2] is not None else 3))
                     for m in _INDEX.finditer(text))  # fmt: skip
        condition = Condition(text, names, keys, program)
        self.plugins |= condition.plugins
        self.headers |= {key for kind, key, _ in keys if kind == "header"}  # as written
        return condition

    def _retry(self, text: str, error: RuntimeError) -> Any:
        # CEL has no overload for `score >= 6`, an int beside a double; with score as dyn it compares at run time.
        wrong = [m for m in _REPORT.finditer(str(error)) if not _MIXED.search(m[3])]
        if wrong or not _REPORT.search(str(error)):
            raise _explain(text, wrong[0] if wrong else None, str(error)) from None
        try:
            return _environment("dyn").compile(text)
        except RuntimeError as second:
            raise _explain(text, _REPORT.search(str(second)), str(second)) from None

    def activation(self, facts: Facts) -> Any:
        """The facts, ready for any number of evaluations."""
        data = {name: facts.get(name, fact.absent) for name, fact in FACTS.items()}
        data["score"] = float(data["score"])
        data["time"] = datetime.fromtimestamp(data["time"], UTC)
        data["found"] = dict.fromkeys(self.plugins, "none") | data["found"]
        data["facts"] = {plugin: {} for plugin in self.plugins} | data["facts"]
        if self.headers:
            known = data["header"]
            data["header"] = known | {name: known.get(name.lower(), "") for name in self.headers}
        return _environment("double").Activation(data)

    def holds(self, condition: Condition, activation: Any) -> tuple[bool, str]:
        """Whether it holds; what cannot be evaluated (a fact that a check did not tell) does not hold, and the
        second value says why."""
        value = condition.program.eval(activation=activation)
        if value.type() == _cel().Type.BOOL:
            return bool(value.value()), ""
        return False, str(value.value())


def _cel() -> Any:
    """The library, loaded with the first condition: it weighs 9 MB, and many policies have none."""
    from cel_expr_python import cel

    return cel


@cache
def _environment(score: str) -> Any:
    cel = _cel()
    string = cel.Type.STRING
    types = {
        "bool": cel.Type.BOOL,
        "double": cel.Type.DOUBLE,
        "dyn": cel.Type.DYN,
        "int": cel.Type.INT,
        "list(string)": cel.Type.List(string),
        "map(string, dyn)": cel.Type.Map(string, cel.Type.DYN),
        "map(string, string)": cel.Type.Map(string, string),
        "string": string,
        "timestamp": cel.Type.TIMESTAMP,
    }
    variables = {name: types[fact.type] for name, fact in FACTS.items()}
    return cel.NewEnv(variables={**variables, "score": types[score]})


def _fact(dotted: str) -> str:
    """The fact that a dotted identifier begins with, the longest that there is; ``""`` for others."""
    while dotted:
        if dotted in FACTS:
            return dotted
        dotted = dotted.rpartition(".")[0]
    return ""


def _explain(text: str, match: re.Match[str] | None, raw: str) -> ConditionError:
    if match is None:
        return ConditionError(raw, 1, 1)
    line, column, what = int(match[1]), int(match[2]), match[3]
    if undeclared := _UNDECLARED.match(what):
        return _unknown(text, line, column, undeclared[1])
    if overload := _OVERLOAD.match(what):
        operator = overload[1].strip("_")
        return ConditionError(f"{operator} cannot be applied to {overload[2].strip('()')}", line, column)
    if "operand of a select" in what:
        return _unknown(text, line, column, "")
    if "<EOF>" in what:
        return ConditionError("the condition ends where more must follow", line, column)
    return ConditionError(what.partition(", expecting")[0].partition(" expecting {")[0], line, column)


def _unknown(text: str, line: int, column: int, word: str) -> ConditionError:
    row = text.split("\n")[line - 1]
    for match in _NAME.finditer(row):
        if match.start() < column <= match.end() + 1:
            word, column = match[0], match.start() + 1
    kind = "function" if row[column - 1 + len(word) :].lstrip().startswith("(") else "fact"
    hint = did_you_mean(word, FACTS) if kind == "fact" else ""
    return ConditionError(f'there is no {kind} "{word}"' if word else "this has no parts", line, column, hint)
