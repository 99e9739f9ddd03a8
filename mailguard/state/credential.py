"""Tables of sign-in: password hashes with SCRAM keys, app passwords, failures, bans, and the server's own secrets."""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from mailguard.state.database import Database, metadata

credential = sa.Table(
    "credential",
    metadata,
    sa.Column("account", sa.Text, primary_key=True),  # address key
    sa.Column("password_hash", sa.Text, nullable=False),
    sa.Column("scram_salt", sa.LargeBinary, nullable=False),
    sa.Column("scram_iterations", sa.Integer, nullable=False),
    sa.Column("scram_stored_key", sa.LargeBinary, nullable=False),
    sa.Column("scram_server_key", sa.LargeBinary, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
)

# App passwords are long random strings, so a plain keyed hash of them is as good as a slow one.
app_password = sa.Table(
    "app_password",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, nullable=False, index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("protocols", sa.Text, nullable=False),  # words separated by a space; empty: all
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("used_at", sa.Float, nullable=False, default=0.0),
    sa.Column("used_from", sa.Text, nullable=False, default=""),
)

# One row for each distinct wrong password, as a keyed hash: a client that repeats one stale password counts once.
auth_failure = sa.Table(
    "auth_failure",
    metadata,
    sa.Column("network", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("at", sa.Float, nullable=False),
)

ban = sa.Table(
    "ban",
    metadata,
    sa.Column("network", sa.Text, primary_key=True),
    sa.Column("account", sa.Text, primary_key=True),  # "" for every account
    sa.Column("until", sa.Float, nullable=False),
    sa.Column("since", sa.Float, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)

secret = sa.Table(
    "secret",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.LargeBinary, nullable=False),
)


def server_secret(database: Database, name: str) -> bytes:
    """32 random octets of that name, made once and the same for every worker and after every restart."""
    with database.read() as connection:
        found = connection.execute(sa.select(secret.c.value).where(secret.c.name == name)).scalar()
    if found is not None:
        return bytes(found)
    try:
        with database.write() as connection:
            connection.execute(sa.insert(secret).values(name=name, value=secrets.token_bytes(32)))
    except sa.exc.IntegrityError:
        pass  # another worker was quicker
    return server_secret(database, name)
