"""The state database: what the machine learns and must agree on across workers (SQLite in WAL mode, or PostgreSQL)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from mailguard.state.settings import StateSettings
from mailguard.state.sqlite import use_wal

_Compiled = tuple[str, Mapping[str, Any], list[str] | None]
"""The text of a statement, the values it has by itself, and the names in the order of their places, if by place."""

metadata = sa.MetaData()
"""Every table of the state database; each module under ``mailguard.state`` declares its own on it."""


class Database:
    """One pool of connections. Safe for threads; after a fork call ``after_fork`` in the child.

    Write transactions of one process take turns on a lock, so SQLite's own writer lock is only ever waited
    for by as many processes as there are workers.
    """

    def __init__(self, settings: StateSettings, data_dir: Path) -> None:
        self.url = settings.url or f"sqlite:///{data_dir / 'state.db'}"
        self.engine = sa.create_engine(
            self.url, poolclass=QueuePool, pool_size=settings.connections, max_overflow=0, pool_timeout=30
        )
        self.is_sqlite = self.engine.dialect.name == "sqlite"
        self._writer = threading.Lock()
        self._compiled: dict[Any, _Compiled] = {}
        self._idle: deque[sa.PoolProxiedConnection] = deque()
        self._most_idle = min(2, settings.connections - 2)
        self._inherited: list[sa.PoolProxiedConnection] = []
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection for reading; what is written on it is rolled back."""
        with self.engine.connect() as connection:
            yield connection

    def lookup(self, statement: sa.Select[Any], **values: Any) -> Any:
        """The first row of ``lookup_all``, None if there is none."""
        rows = self.lookup_all(statement, **values)
        return rows[0] if rows else None

    def lookup_all(self, statement: sa.Select[Any], **values: Any) -> list[Any]:
        """The rows of a statement made once, with bound parameters and plain columns.

        For what every message asks: without SQLAlchemy's own machinery a look-up costs a tenth.
        """
        compiled = self._compiled.get(statement)
        if compiled is None:
            made = statement.compile(dialect=self.engine.dialect)
            compiled = self._compiled[statement] = str(made), made.params, made.positiontup
        text, defaults, places = compiled
        known = {**defaults, **values}
        wanted: Any = known if places is None else [known[name] for name in places]
        connection = self._reader()
        try:
            cursor = connection.cursor()
            cursor.execute(text, wanted)
            rows = list(cursor.fetchall())
            cursor.close()
            if not self.is_sqlite:  # there each look-up would else go on in one transaction
                connection.rollback()
        except self.engine.dialect.loaded_dbapi.Error as error:
            connection.close()
            raise sa.exc.OperationalError(text, wanted, error) from error
        self._let_go(connection)
        return rows

    def _reader(self) -> sa.PoolProxiedConnection:
        """A connection for a look-up: the pool takes as long to hand one out as the look-up itself."""
        try:
            return self._idle.pop()
        except IndexError:
            return self.engine.raw_connection()

    def _let_go(self, connection: sa.PoolProxiedConnection) -> None:
        if len(self._idle) < self._most_idle:  # the pool keeps at least two for all others
            self._idle.append(connection)
        else:
            connection.close()  # back to the pool, rolled back

    @contextmanager
    def write(self, *, durable: bool = False) -> Iterator[sa.Connection]:
        """A write transaction, committed at the end, rolled back on an exception.

        ``durable`` makes the commit survive a power cut; use it for what a 250 promises and nothing else.
        Raises sqlalchemy.exc.OperationalError, for instance when the disk is full or the database locked.
        """
        with self._writer, self.engine.connect() as connection:
            if self.is_sqlite:
                level = "FULL" if durable else "NORMAL"
                raw: Any = connection.connection.dbapi_connection
                raw.execute(f"PRAGMA synchronous={level}")
                connection = connection.execution_options(mailguard_write=True)
            with connection.begin():
                yield connection

    def after_fork(self) -> None:
        """Forgets the parent's connections without closing them."""
        self.engine.dispose(close=False)
        self._inherited += self._idle  # kept, for letting go of one ends what the parent has under way on it
        self._idle.clear()
        self._writer = threading.Lock()

    def close(self) -> None:
        """Closes every connection."""
        while self._idle:
            self._idle.pop().close()
        self.engine.dispose()

    def __del__(self) -> None:
        with suppress(Exception):  # at the end of the program there may be nothing left to do it with
            self.close()


def _prepare_sqlite(raw: Any, _record: Any) -> None:
    raw.isolation_level = None  # we say BEGIN ourselves
    use_wal(raw, 10)
    raw.create_function("lower", 1, _lower, deterministic=True)  # its own knows ASCII only
    for pragma in ("busy_timeout=10000", "synchronous=NORMAL", "foreign_keys=ON", "cache_size=-256"):
        raw.execute(f"PRAGMA {pragma}")


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _begin_sqlite(connection: sa.Connection) -> None:
    # A write transaction takes the writer lock at once: a reader that turns writer may fail without a wait.
    write = connection.get_execution_options().get("mailguard_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
