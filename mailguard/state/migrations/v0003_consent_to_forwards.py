"""Consent of those that mail is forwarded to."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """One step forward: forwards that are there already go on as they are."""
    consent = op.create_table(
        "forward_consent",
        sa.Column("account", sa.String(length=320), nullable=False),
        sa.Column("target", sa.String(length=320), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("agreed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("account", "target"),
    )
    op.create_index("ix_forward_consent_digest", "forward_consent", ["digest"], unique=False)
    now = time.time()
    rows = op.get_bind().execute(sa.text("SELECT account, targets FROM forward")).all()
    known = [(account, target) for account, targets in rows for target in dict.fromkeys(targets.splitlines())]
    if known:
        some = {"digest": b"", "asked_at": now, "agreed_at": now}
        op.bulk_insert(consent, [{"account": account, "target": target, **some} for account, target in known])
