"""The same migrations on a real PostgreSQL, where there is one and psycopg to speak with it."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailguard.state import compare, migrate
from mailguard.state.database import Database
from mailguard.state.settings import StateSettings

pytest.importorskip("psycopg", reason="needs psycopg (mailguard[postgresql])")
_FOUND = [*Path("/usr/lib/postgresql").glob("*/bin"), *(Path(w).parent for w in [shutil.which("pg_ctl")] if w)]
pytestmark = [pytest.mark.e2e, pytest.mark.skipif(not _FOUND, reason="needs PostgreSQL")]


@pytest.fixture
def url() -> Iterator[str]:
    # Its path must be short (the socket lies there), and PostgreSQL refuses to run as root.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        become: dict[str, object] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            become = {"user": "nobody", "group": nobody.pw_gid, "extra_groups": []}

        def run(program: str, *words: str) -> None:
            command = [str(_FOUND[0] / program), *words]
            subprocess.run(
                command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, **become
            )  # type: ignore[call-overload]

        run("initdb", "-D", name + "/data", "-A", "trust", "-U", "mail", "--no-sync")
        options = f"-k {name} -c listen_addresses='' -c fsync=off"
        run("pg_ctl", "-D", name + "/data", "-w", "-o", options, "-l", name + "/log", "start")
        try:
            yield f"postgresql+psycopg://mail@/postgres?host={name}"
        finally:
            run("pg_ctl", "-D", name + "/data", "-m", "immediate", "stop")


def test_the_tables_are_the_same(url: str, tmp_path: Path) -> None:
    database = Database(StateSettings(url=url), tmp_path)
    try:
        migrate.prepare(database)
        migrate.prepare(database)
        with database.read() as connection:
            assert compare.differences(connection) == []
    finally:
        database.close()
