"""Migrations: they make exactly the tables that the code declares, once, whoever comes first."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from mailguard.delivery.forwarding import Forwards
from mailguard.delivery.queue import Queue
from mailguard.model.address import Address
from mailguard.model.envelope import Recipient
from mailguard.state import compare, migrate
from mailguard.state.database import Database
from mailguard.state.settings import StateSettings

CURE = """

The tables under mailguard/state and the migrations differ. If you changed a table, write the migration with

    scripts/migration "what it is for"

and commit it with the change. What differs:

  """


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database(StateSettings(), tmp_path)


def test_tables_and_migrations_agree(database: Database) -> None:
    with database.write() as connection:
        migrate.upgrade(connection)
        found = compare.differences(connection)
    assert not found, CURE + "\n  ".join(found)
    assert len(compare.heads()) == 1, (
        f"two migrations follow the same one, {compare.heads()}: give one the next number, in its name, `revision` and "
        "`down_revision`"
    )
    database.close()


def shape(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Columns and indexes of every table, as SQLite tells them, in the order of their names."""
    found: dict[str, list[tuple[object, ...]]] = {}
    with database.read() as connection:
        for table in sorted(sa.inspect(connection).get_table_names()):
            columns = connection.exec_driver_sql(
                f"SELECT name, type, \"notnull\", pk FROM pragma_table_info('{table}')"
            )
            indexes = connection.exec_driver_sql(f"SELECT name, \"unique\", partial FROM pragma_index_list('{table}')")
            found[table] = sorted(map(tuple, columns)) + sorted(map(tuple, indexes))
    return found


def test_a_new_database_is_as_if_it_had_taken_every_step(tmp_path: Path, database: Database) -> None:
    migrate.prepare(database)
    (tmp_path / "steps").mkdir()
    stepped = Database(StateSettings(), tmp_path / "steps")
    with stepped.write() as connection:
        migrate.upgrade(connection)
        versions = connection.exec_driver_sql("SELECT * FROM alembic_version").all()
    assert shape(database) == shape(stepped)
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT * FROM alembic_version").all() == versions
    stepped.close()
    database.close()


def test_a_new_database_needs_no_alembic(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from mailguard.state import migrate; from mailguard.state.database import *\n"
        "migrate.prepare(Database(StateSettings(), pathlib.Path(sys.argv[1]))); assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)


def test_every_table_is_declared_under_state() -> None:
    import mailguard

    folder = Path(mailguard.__file__).parent
    elsewhere = [str(path.relative_to(folder)) for path in folder.rglob("*.py") if "sa.Table(\n" in path.read_text()]
    assert [name for name in elsewhere if not name.startswith("state/")] == []


def test_a_change_is_seen_and_written_down(tmp_path: Path) -> None:
    table = sa.Table("new_thing", migrate.all_tables(), sa.Column("id", sa.Text, primary_key=True))
    try:
        path = compare.write_step("New things, for a test", tmp_path)
        engine = sa.create_engine("sqlite://")
        with engine.connect() as connection:
            migrate.upgrade(connection)
            found = compare.differences(connection)
        engine.dispose()
    finally:
        migrate.metadata.remove(table)
    assert found == ["add table: new_thing"]
    number = int(migrate.head()) + 1
    assert path is not None and path.name == f"v{number:04d}_new_things_for_a_test.py"
    assert 'op.create_table("new_thing"' in path.read_text().replace("'", '"')
    assert f'down_revision = "{migrate.head()}"' in path.read_text().replace("'", '"')


def test_up_to_date_costs_nothing(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    migrate.prepare(database)
    monkeypatch.setattr(migrate, "upgrade", lambda *_: pytest.fail("nothing was to be done"))
    migrate.prepare(database)
    database.close()


def _prepare(folder: Path) -> None:
    database = Database(StateSettings(), folder)
    migrate.prepare(database)
    database.close()


def test_several_processes_at_once(tmp_path: Path, database: Database) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_prepare, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    with database.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM alembic_version")).scalar() == 1
    database.close()


def test_a_database_is_copied_before_it_is_changed(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate.prepare(database)
    monkeypatch.setattr(migrate, "head", lambda: "9998")
    monkeypatch.setattr(migrate, "upgrade", lambda connection: None)
    migrate.prepare(database)
    (copy,) = tmp_path.glob("state.db.0*")
    assert copy.stat().st_mode & 0o777 == 0o600
    raw = sqlite3.connect(copy)
    assert raw.execute("SELECT count(*) FROM credential").fetchone() == (0,)
    raw.close()
    database.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to own folders of others")
def test_what_root_makes_belongs_to_the_owner_of_the_folder(tmp_path: Path, database: Database) -> None:
    os.chown(tmp_path, 65534, 65534)
    migrate.prepare(database)
    assert {path.stat().st_uid for path in tmp_path.glob("state.db*")} == {65534}
    database.close()


def test_a_newer_database_is_left_alone(database: Database) -> None:
    migrate.prepare(database)
    with database.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(migrate.MigrationError, match="a newer mailguard has changed it"):
        migrate.prepare(database)
    database.close()


def test_a_database_from_before_there_were_migrations(database: Database) -> None:
    tables = migrate.all_tables()
    tables.create_all(database.engine, tables=[tables.tables[name] for name in ("credential", "verdict")])
    migrate.prepare(database)
    with database.read() as connection:
        assert compare.differences(connection) == []
    with database.write() as connection:
        connection.execute(sa.text("DROP TABLE alembic_version"))
        connection.execute(sa.text("ALTER TABLE credential DROP COLUMN changed_at"))
    with pytest.raises(migrate.MigrationError, match=r"too different \(add column: .*changed_at"):
        migrate.prepare(database)
    database.close()


def test_forwards_from_before_there_was_consent_go_on(database: Database) -> None:
    with database.write() as connection:
        migrate.upgrade(connection, "0002")
        row = "('ann@office.test', 'home@x.test\nbob@office.test', 1)"
        connection.exec_driver_sql(f"INSERT INTO forward (account, targets, keep) VALUES {row}")
        migrate.upgrade(connection)
    forwards = Forwards(database, "anywhere", lambda domain: domain == "office.test")
    found = forwards.active("ann@office.test")
    assert found is not None and list(map(str, found.targets)) == ["home@x.test", "bob@office.test"]
    database.close()


def test_what_waits_in_the_queue_of_an_older_version_is_delivered(tmp_path: Path, database: Database) -> None:
    with database.write() as connection:
        migrate.upgrade(connection, "0003")
        connection.exec_driver_sql(
            "INSERT INTO queue_message VALUES ('m', 'm', 'a@x.test', 'x.test', 1.0, 9, 0, 0, 0, 0, '', '')"
        )
        old = sa.Table("queue_recipient", sa.MetaData(), autoload_with=connection)
        row = {column.name: "" if isinstance(column.type, sa.Text) else 0 for column in old.c if column.name != "id"}
        connection.execute(
            old.insert().values(
                row | {"message_id": "m", "local": "ann", "domain": "office.test", "destination": "office.test"}
            )
        )
    migrate.prepare(database)
    (work,) = Queue(database, tmp_path / "queue").claim("office.test", limit=9, lease_seconds=60)
    (waiting,) = work.recipients
    assert waiting.recipient == Recipient(Address.parse("ann@office.test"))
    database.close()
