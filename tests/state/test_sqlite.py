"""Files that several processes make at the same moment."""

from __future__ import annotations

import multiprocessing
import sqlite3
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from mailguard.state.sqlite import open_sqlite


def make_files(barrier: Barrier, folder: Path, count: int) -> None:
    for number in range(count):
        barrier.wait()
        database = open_sqlite(folder / f"{number}.db")
        database.execute("CREATE TABLE IF NOT EXISTS made (pid)")
        database.execute("INSERT INTO made VALUES (1)")
        database.close()


def test_processes_that_make_one_file_at_once_all_get_in(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3, timeout=60)
    makers = [context.Process(target=make_files, args=(barrier, tmp_path, 40)) for _ in range(3)]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert [maker.exitcode for maker in makers] == [0, 0, 0]
    database = open_sqlite(tmp_path / "39.db")
    assert database.execute("SELECT count(*) FROM made").fetchone() == (3,)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


def test_a_file_that_stays_locked_is_told_of(tmp_path: Path) -> None:
    holder = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    holder.execute("CREATE TABLE a (b)")
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        open_sqlite(tmp_path / "a.db", timeout=0.1)
    holder.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"not a database, but long enough to look like one" * 40)
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        open_sqlite(tmp_path / "a.db")
