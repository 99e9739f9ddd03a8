"""Who was told that an account is nearly full, so that nobody is told twice."""

from __future__ import annotations

import sqlalchemy as sa

from mailguard.state.database import Database, metadata

quota_warning = sa.Table(
    "quota_warning",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("percent", sa.Integer, nullable=False),
)

_SLACK = 5  # percent that an account must fall below a threshold before it counts as left


def due(database: Database, account: str, percent: int, thresholds: tuple[int, ...]) -> int:
    """The threshold that an account so full has newly reached, 0 if there is none; it is remembered."""
    reached = max((each for each in thresholds if percent >= each), default=0)
    with database.read() as connection:
        told = connection.execute(sa.select(quota_warning.c.percent).where(quota_warning.c.account == account)).scalar()
    told = told or 0
    if told == reached or (reached < told and percent > told - _SLACK):
        return 0
    with database.write() as connection:
        connection.execute(sa.delete(quota_warning).where(quota_warning.c.account == account))
        if reached:
            connection.execute(sa.insert(quota_warning).values(account=account, percent=reached))
    return reached if reached > told else 0
