"""Mailboxes of what waits in the queue."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """One step forward."""
    op.add_column("queue_recipient", sa.Column("mailbox", sa.Text(), server_default="", nullable=False))
