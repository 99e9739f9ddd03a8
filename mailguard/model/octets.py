"""Amounts of data as people write them in configuration files: ``500M``, ``2G``, ``1.5G``, or a bare number."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\Z")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def parse_octets(value: object) -> int:
    """Octets from ``"500M"`` (1024-based) or a number; raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _AMOUNT.match(str(value).strip().lower())
    if not match:
        raise ValueError(f'{value!r} is not an amount of data; write for instance "500K", "50M" or "2G"')
    return int(float(match[1]) * 1024 ** _POWERS[match[2]])


def format_octets(value: int) -> str:
    """The shortest exact way to write it that ``parse_octets`` reads back."""
    for unit, power in (("T", 4), ("G", 3), ("M", 2), ("K", 1)):
        if value and value % 1024**power == 0:
            return f"{value // 1024**power}{unit}"
    return str(value)


Octets = Annotated[int, BeforeValidator(parse_octets), PlainSerializer(format_octets, return_type=str)]
"""A settings field: a number of octets, written as in ``parse_octets``."""
