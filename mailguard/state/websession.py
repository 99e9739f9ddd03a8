"""Tables of the account page: who is signed in there, and links that work once."""

from __future__ import annotations

import sqlalchemy as sa

from mailguard.state.database import metadata

# The token itself is in the browser only; ``stamp`` is the time of the password that it was made with.
web_session = sa.Table(
    "web_session",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("id", sa.Text, nullable=False),
    sa.Column("account", sa.Text, nullable=False, index=True),
    sa.Column("stamp", sa.Float, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
    sa.Column("peer_ip", sa.Text, nullable=False),
    sa.Column("agent", sa.Text, nullable=False),
)

setup_link = sa.Table(
    "setup_link",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("account", sa.Text, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False),
)

# One row for each way that an account is used; phones sign in a hundred times a day.
sign_in = sa.Table(
    "sign_in",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("protocol", sa.Text, primary_key=True),
    sa.Column("peer_ip", sa.Text, primary_key=True),
    sa.Column("outcome", sa.Text, primary_key=True),  # "" for a success, else why not
    sa.Column("app_password", sa.Text, primary_key=True),  # its name, "" for the account's own password
    sa.Column("first_at", sa.Float, nullable=False),
    sa.Column("last_at", sa.Float, nullable=False, index=True),
    sa.Column("count", sa.Integer, nullable=False),
)
