"""Tables of what an account's owner sets on the account page: out-of-office replies and forwards."""

from __future__ import annotations

import sqlalchemy as sa

from mailguard.state.database import metadata

vacation = sa.Table(
    "vacation",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("starts_at", sa.Float, nullable=False),  # Unix times; 0: from now on, for ever
    sa.Column("ends_at", sa.Float, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)

vacation_sent = sa.Table(
    "vacation_sent",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("sender", sa.String(320), primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
)

forward = sa.Table(
    "forward",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("targets", sa.Text, nullable=False),  # addresses, one a line
    sa.Column("keep", sa.Boolean, nullable=False),
)

# Whom outside an account wants to forward to; the code itself is in the letter only.
forward_consent = sa.Table(
    "forward_consent",
    metadata,
    sa.Column("account", sa.String(320), primary_key=True),
    sa.Column("target", sa.String(320), primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False, index=True),
    sa.Column("asked_at", sa.Float, nullable=False),
    sa.Column("agreed_at", sa.Float, nullable=False),  # 0: not yet
)
