"""One line of ``mailguard doctor``: what was looked at, how it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mark = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Line:
    """``area`` groups lines; ``cure`` is ``""`` where nothing is to be done."""

    area: str
    mark: Mark
    text: str
    cure: str = ""


def ok(area: str, text: str) -> Line:
    """All is well."""
    return Line(area, "ok", text)


def warn(area: str, text: str, cure: str) -> Line:
    """It works, but not well, or not for long."""
    return Line(area, "warn", text, cure)


def fail(area: str, text: str, cure: str) -> Line:
    """Mail suffers."""
    return Line(area, "fail", text, cure)
