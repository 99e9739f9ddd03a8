"""Cached MTA-STS policies of other domains."""

from __future__ import annotations

import sqlalchemy as sa

from mailguard.state.database import metadata

sts_policy = sa.Table(
    "sts_policy",
    metadata,
    sa.Column("domain", sa.Text, primary_key=True),
    sa.Column("policy_id", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("fetched_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
)
