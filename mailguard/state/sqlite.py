"""Opening SQLite files that several processes may make at the same moment."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

_PAUSE = 0.01  # seconds between attempts; the switch itself takes about a millisecond


def open_sqlite(path: Path, *, timeout: float = 10.0, cache_kib: int = 256) -> sqlite3.Connection:
    """A connection in write-ahead mode and autocommit, usable by several threads one at a time.

    ``timeout`` is how many seconds a statement waits for another writer, ``cache_kib`` the page cache's size.
    Raises sqlite3.OperationalError when the file cannot be made or stays locked, sqlite3.DatabaseError when it
    is none of SQLite's.
    """
    connection = sqlite3.connect(
        path, timeout=timeout, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    try:
        use_wal(connection, timeout)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(f"PRAGMA cache_size=-{cache_kib}")
    except BaseException:
        connection.close()
        raise
    return connection


def use_wal(connection: Any, timeout: float) -> None:
    """Puts a database into write-ahead mode (https://sqlite.org/wal.html), trying for ``timeout`` seconds.

    SQLite does not wait for locks there: of two processes that open a new file at once, one fails at once.
    Raises sqlite3.OperationalError.
    """
    until = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= until:
                raise
            time.sleep(_PAUSE)
