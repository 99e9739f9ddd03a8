"""Brings the state database to the shape that this version of mailguard wants, once: a new one gets today's tables, an
older one the steps since (Alembic)."""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

import mailguard.state
from mailguard.state.database import Database, metadata

if TYPE_CHECKING:
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

FOLDER = Path(__file__).with_name("migrations")
_STEP = re.compile(r"v(\d{4})_\w+\.py")
_TABLE = "alembic_version"
_LOCK = 0x6D61696C  # PostgreSQL's advisory lock of ours


class MigrationError(Exception):
    """The database cannot be used by this version of mailguard; the text names the cure."""


def head() -> str:
    """The newest step there is."""
    return max(match[1] for path in FOLDER.iterdir() if (match := _STEP.fullmatch(path.name)))


def prepare(database: Database) -> None:
    """Call it before the first use: does nothing where all is up to date, and costs a millisecond then.

    Safe while other processes do the same. A SQLite database is copied beside itself before it is changed. Raises
    MigrationError, sqlalchemy.exc.OperationalError.
    """
    with database.read() as connection:
        version = _version(connection)
    if version == head():
        return
    _refuse_newer(database, version)
    if version:
        _keep_copy(database, version)
    with database.write(durable=True) as connection:
        if not database.is_sqlite:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        version = _version(connection)
        if version == head():
            pass  # somebody was faster
        elif version:
            upgrade(connection)
        elif sa.inspect(connection).has_table("credential"):
            _adopt(connection)
        else:
            create(connection)
    _give_away(database)


def all_tables() -> sa.MetaData:
    """The metadata with every table of ``mailguard.state`` declared on it."""
    for module in pkgutil.iter_modules(mailguard.state.__path__):
        if module.name != "migrations":
            importlib.import_module(f"mailguard.state.{module.name}")
    return metadata


def create(connection: sa.Connection) -> None:
    """Makes every table of today in an empty database, without Alembic: importing it would double the first start."""
    all_tables().create_all(connection)
    number = sa.Column("version_num", sa.String(32), nullable=False)
    versions = sa.Table(_TABLE, sa.MetaData(), number, sa.PrimaryKeyConstraint(number, name=f"{_TABLE}_pkc"))
    versions.create(connection)
    connection.execute(versions.insert().values(version_num=head()))


def _give_away(database: Database) -> None:
    """A database that root has made is to be the server's own user's: whoever owns the data folder."""
    path = Path(database.engine.url.database or "")
    if database.is_sqlite and os.geteuid() == 0 and path.is_file():
        owner = path.parent.stat()
        for file in (path, *path.parent.glob(f"{path.name}-*")):
            with contextlib.suppress(OSError):
                os.chown(file, owner.st_uid, owner.st_gid)


def _version(connection: sa.Connection) -> str:
    """The step that the database has come to, ``""`` for none."""
    if not sa.inspect(connection).has_table(_TABLE):
        return ""
    return connection.execute(sa.text(f"SELECT version_num FROM {_TABLE}")).scalar() or ""


def _refuse_newer(database: Database, version: str) -> None:
    if version > head():
        raise MigrationError(
            f"{database.engine.url.render_as_string()}: a newer mailguard has changed it (step {version}, this one "
            f"knows {head()}); install that version again, or restore the copy made before"
        )


def _adopt(connection: sa.Connection) -> None:
    """Takes over a database from before there were steps, if it has today's shape or lacks whole tables only."""
    from alembic.runtime.migration import MigrationContext

    from mailguard.state.compare import differences

    all_tables().create_all(connection)
    left = differences(connection)
    if left:
        text = f"{connection.engine.url.render_as_string()}: from an unreleased version, and too different"
        raise MigrationError(f"{text} ({'; '.join(left[:3])}); move it away, and set the passwords anew")
    MigrationContext.configure(connection).stamp(script(), "head")


def _keep_copy(database: Database, version: str) -> None:
    """``state.db.0003`` beside ``state.db``: what it was before it is changed."""
    path = database.engine.url.database
    if not database.is_sqlite or not path or path == ":memory:":
        return
    copy = Path(f"{path}.{version}")
    copy.unlink(missing_ok=True)
    source, target = sqlite3.connect(path), sqlite3.connect(copy)
    try:
        source.backup(target)
    finally:
        source.close()
        target.close()
    copy.chmod(0o600)


def script() -> ScriptDirectory:
    """Alembic's view of the steps."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(FOLDER), version_locations=[str(FOLDER)])


def upgrade(connection: sa.Connection, to: str = "head") -> None:
    """Takes the steps up to ``to`` in the transaction that the connection is in."""
    directory = script()

    def steps(version: Any, _context: Any) -> Any:
        return directory._upgrade_revs(to, version)

    with _environment(directory, steps, to) as environment:
        environment.configure(connection=connection, render_as_batch=True)
        environment.run_migrations()


def _environment(directory: ScriptDirectory, steps: Any, to: str) -> EnvironmentContext:
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext

    return EnvironmentContext(Config(), directory, fn=steps, as_sql=False, destination_rev=to)
