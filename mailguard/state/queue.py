"""The outbound queue's tables: one row per message, one per recipient still to be served."""

from __future__ import annotations

import sqlalchemy as sa

from mailguard.state.database import metadata

QUEUED = 0
HELD = 1
URGENT = 0.0  # a due time: somebody wants it tried now, even if its destination is being left alone

queue_message = sa.Table(
    "queue_message",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # also the stem of the body's file name
    sa.Column("envelope_id", sa.Text, nullable=False),
    sa.Column("mail_from", sa.Text),  # NULL is the null reverse path
    sa.Column("sender_domain", sa.Text, nullable=False, default=""),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("body_8bit", sa.Boolean, nullable=False),
    sa.Column("smtputf8", sa.Boolean, nullable=False),
    sa.Column("require_tls", sa.Boolean, nullable=False),
    sa.Column("tls_optional", sa.Boolean, nullable=False),  # TLS-Required: No (RFC 8689 §3)
    sa.Column("ret", sa.Text, nullable=False),
    sa.Column("envid", sa.Text, nullable=False),
)

# A claim is a lease: it moves ``due_at`` to the lease's end and writes its owner into ``lease_by``. A runner
# that dies therefore gives its recipients back by itself, and one index serves every question about time.
queue_recipient = sa.Table(
    "queue_recipient",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("message_id", sa.Text, sa.ForeignKey("queue_message.id"), nullable=False, index=True),
    sa.Column("local", sa.Text, nullable=False),
    sa.Column("domain", sa.Text, nullable=False),
    sa.Column("notify", sa.Text, nullable=False),
    sa.Column("orcpt", sa.Text, nullable=False),
    sa.Column("mailbox", sa.Text, nullable=False, server_default=""),  # of an account here; empty for the INBOX
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("rerouted", sa.Boolean, nullable=False, default=False),
    sa.Column("state", sa.SmallInteger, nullable=False, default=QUEUED),
    sa.Column("due_at", sa.Float, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("lease_by", sa.Text, nullable=False, default=""),
    sa.Column("hold_reason", sa.Text, nullable=False, default=""),
    sa.Column("delay_sent", sa.Boolean, nullable=False, default=False),
    sa.Column("last_at", sa.Float, nullable=False, default=0.0),
    sa.Column("last_code", sa.Integer, nullable=False, default=0),
    sa.Column("last_status", sa.Text, nullable=False, default=""),
    sa.Column("last_text", sa.Text, nullable=False, default=""),
    sa.Column("last_host", sa.Text, nullable=False, default=""),
    sa.Column("last_tls", sa.Text, nullable=False, default=""),
    sa.Index("queue_recipient_due", "state", "destination", "due_at"),
)

# How many recipients each sender mailed in each hour, kept only where a cap is set.
queue_sender = sa.Table(
    "queue_sender",
    metadata,
    sa.Column("sender", sa.Text, primary_key=True),
    sa.Column("hour", sa.Integer, primary_key=True),
    sa.Column("recipients", sa.Integer, nullable=False),
)
