"""What DMARC's and TLS's aggregate reports have in common."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CONTROL = re.compile(r"[\x00-\x1f\x7f]+")


class ReportError(ValueError):
    """Not a report that can be read; the text says why."""


@dataclass(frozen=True, slots=True)
class Report:
    """Who reports, and on which time: ``begin`` and ``end`` are Unix times."""

    organisation: str
    contact: str
    report_id: str
    begin: int
    end: int


def clean(text: str) -> str:
    """A stranger's text in one line, not too long."""
    return _CONTROL.sub(" ", text).strip()[:300]
