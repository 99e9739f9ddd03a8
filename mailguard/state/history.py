"""Known correspondents: to whom our users have written, and whose mail arrived with a pass before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

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
    .values({column.name: column + 1, "last_at": sa.bindparam("at")})
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
    """Looks correspondents up; ``note`` is called with the connection of a batched write."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, address: str) -> Known:
        """What is known of an address in lower case."""
        if not address:
            return Known()
        row = self._database.lookup(_KNOWN, address=address)
        return Known(*row) if row else Known()


def note(connection: sa.Connection, addresses: Iterable[str], now: float, *, wrote: bool) -> None:
    """Counts one message to (``wrote``) or a good one from each of these addresses."""
    counted = _COUNTED["wrote" if wrote else "passed"]
    for address in {a[:320] for a in addresses if a}:
        if not connection.execute(counted, {"who": address, "at": now}).rowcount:
            first = {"wrote": int(wrote), "passed": int(not wrote)}
            connection.execute(_FIRST, {"address": address, "last_at": now, **first})


def prune(connection: sa.Connection, now: float) -> int:
    """Forgets correspondents not heard of for 400 days; returns how many."""
    return connection.execute(sa.delete(correspondent).where(_T.last_at < now - FORGET_AFTER)).rowcount
