from __future__ import annotations

import pytest
import sqlalchemy as sa

from mailguard.state import history
from mailguard.state.database import Database, metadata
from mailguard.state.history import History
from mailguard.state.kv import KeyValueStore
from mailguard.state.settings import StateSettings
from mailguard.testing import FakeClock


@pytest.fixture
def database(tmp_path):
    database = Database(StateSettings(), tmp_path)
    metadata.create_all(database.engine)
    yield database
    database.close()


def test_a_look_up_sees_what_was_written_a_moment_ago(database):
    known = History(database)
    assert not known.known("ann@example.org")
    with database.write() as connection:
        history.note(connection, ["ann@example.org"], 1.0, wrote=True)
    assert known.known("ann@example.org").wrote == 1


def test_values_expire_in_look_ups(database):
    clock = FakeClock()
    store = KeyValueStore(database, "p", now=clock)
    store.put("a", {"x": [1]}, ttl=10)
    assert store.get("a") == {"x": [1]}
    assert KeyValueStore(database, "other", now=clock).get("a") is None
    clock.tick(11)
    assert store.get("a") is None


def test_connections_go_back_to_the_pool(database):
    store = KeyValueStore(database, "p")
    for _ in range(20):
        store.get("a")
    assert database.engine.pool.checkedout() == 0


def test_a_failure_is_an_operational_error_as_elsewhere(database):
    metadata.drop_all(database.engine)
    with pytest.raises(sa.exc.OperationalError):
        KeyValueStore(database, "p").get("a")
    assert database.engine.pool.checkedout() == 0
