"""How TLS on the way out went, counted by day: what SMTP TLS reports are made of (RFC 8460)."""

from __future__ import annotations

import sqlalchemy as sa

from mailguard.state.database import metadata

tls_outcome = sa.Table(
    "tls_outcome",
    metadata,
    sa.Column("day", sa.Integer, primary_key=True),  # days since 1970, UTC
    sa.Column("domain", sa.String(255), primary_key=True),
    sa.Column("kind", sa.String(20), primary_key=True),  # sts, tlsa, no-policy-found
    sa.Column("host", sa.String(255), primary_key=True),
    sa.Column("result", sa.String(40), primary_key=True),  # empty: success
    sa.Column("count", sa.Integer, nullable=False),
)
