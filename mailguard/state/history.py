"""Known correspondents: to whom our users have written, and whose mail arrived with a pass before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import sqlalchemy as sa

from mailguard.state.database import Database, metadata

correspondent = sa.Table(
    "correspondent",
    metadata,
    sa.Column("address", sa.String(320), primary_key=True),
    sa.Column("wrote", sa.Integer, nullable=False, default=0),
    sa.Column("passed", sa.Integer, nullable=False, default=0),
    sa.Column("last_at", sa.Float, nullable=False, index=True),
)
"""By address in lower case: how often our users wrote to it, how often good mail of it came with an aligned pass."""

_T = correspondent.c
_KNOWN = sa.select(_T.wrote, _T.passed).where(_T.address == sa.bindparam("address"))
_COUNTED = {
    column.name: sa.update(correspondent)
    .where(_T.address == sa.bindparam("who"))
    .values({column.name: column + sa.bindparam("times"), "last_at": sa.bindparam("at")})
    for column in (_T.wrote, _T.passed)
}
_FIRST = sa.insert(correspondent)
"""By column; made once, as making them costs more than they do."""
ENOUGH_PASSES = 2
FORGET_AFTER = 400 * 86_400.0  # seconds without a sign of life


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an address."""

    wrote: int = 0
    passed: int = 0

    def __bool__(self) -> bool:
        return self.wrote > 0 or self.passed >= ENOUGH_PASSES


class History:
    """Looks correspondents up; what is to be remembered of them goes through the recorder."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, address: str) -> Known:
        """What is known of an address in lower case."""
        if not address:
            return Known()
        row = self._database.lookup(_KNOWN, address=address)
        return Known(*row) if row else Known()


class Meeting(NamedTuple):
    """One message to an address (``wrote``) or a good one from it, and when (Unix time)."""

    address: str
    wrote: bool
    at: float


def note(connection: sa.Connection, meetings: Iterable[Meeting]) -> None:
    """Counts them; those with one address are written down together."""
    counts: dict[tuple[str, bool], tuple[int, float]] = {}
    for address, wrote, at in meetings:
        if address:
            who = address[:320], wrote
            times, last = counts.get(who, (0, at))
            counts[who] = times + 1, max(last, at)
    for (address, wrote), (times, at) in counts.items():
        counted = _COUNTED["wrote" if wrote else "passed"]
        if not connection.execute(counted, {"who": address, "times": times, "at": at}).rowcount:
            first = {"wrote": times * wrote, "passed": times * (not wrote)}
            connection.execute(_FIRST, {"address": address, "last_at": at, **first})


def prune(connection: sa.Connection, now: float) -> int:
    """Forgets correspondents not heard of for 400 days; returns how many."""
    return connection.execute(sa.delete(correspondent).where(_T.last_at < now - FORGET_AFTER)).rowcount
