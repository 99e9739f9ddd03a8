"""Who has sent how much: messages and recipients of each account by hour, and whom it has written to before."""

from __future__ import annotations

import sqlalchemy as sa

from mailguard.state.database import metadata

sent_hour = sa.Table(
    "sent_hour",
    metadata,
    sa.Column("account", sa.String(320), primary_key=True),
    sa.Column("hour", sa.Integer, primary_key=True),  # hours since 1970
    sa.Column("messages", sa.Integer, nullable=False),
    sa.Column("recipients", sa.Integer, nullable=False),
)

sent_recipient = sa.Table(
    "sent_recipient",
    metadata,
    sa.Column("account", sa.String(320), primary_key=True),
    sa.Column("recipient", sa.String(320), primary_key=True),
    sa.Column("first_at", sa.Float, nullable=False),
    sa.Column("last_at", sa.Float, nullable=False),
    sa.Index("sent_recipient_first", "account", "first_at"),
)

# When somebody was last told that an account is over its allowance.
sent_alert = sa.Table(
    "sent_alert",
    metadata,
    sa.Column("account", sa.String(320), primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
)
