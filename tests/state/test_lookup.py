from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import sqlalchemy as sa

from mailguard.state import history
from mailguard.state.database import Database, metadata
from mailguard.state.history import History, Meeting
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
        history.note(connection, [Meeting("ann@example.org", True, 1.0)])
    assert known.known("ann@example.org").wrote == 1


def test_values_expire_in_look_ups(database):
    clock = FakeClock()
    store = KeyValueStore(database, "p", now=clock)
    store.put("a", {"x": [1]}, ttl=10)
    assert store.get("a") == {"x": [1]}
    assert KeyValueStore(database, "other", now=clock).get("a") is None
    clock.tick(11)
    assert store.get("a") is None


@pytest.mark.parametrize("connections", [1, 2, 3, 8])
def test_look_ups_keep_connections_but_leave_two_to_others(tmp_path, connections):
    database = Database(StateSettings(connections=connections), tmp_path)
    metadata.create_all(database.engine)
    store = KeyValueStore(database, "p")
    store.put("a", 1)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: store.get("a"), range(400))) == [1] * 400
    kept = database.engine.pool.checkedout()
    assert kept <= min(2, max(0, connections - 2))
    with ExitStack() as stack:  # would wait half a minute and fail
        for _ in range(connections - kept):
            stack.enter_context(database.read())
    database.close()
    assert database.engine.pool.checkedout() == 0


def test_a_kept_connection_sees_what_others_write_and_is_not_taken_into_a_child(database, tmp_path):
    store = KeyValueStore(database, "p")
    assert store.get("a") is None
    assert database.engine.pool.checkedout() == 1
    other = Database(StateSettings(), tmp_path)
    KeyValueStore(other, "p").put("a", 1)
    other.close()
    assert store.get("a") == 1
    database.after_fork()
    assert database.engine.pool.checkedout() == 0
    assert store.get("a") == 1


def test_a_failure_is_an_operational_error_as_elsewhere(database):
    metadata.drop_all(database.engine)
    with pytest.raises(sa.exc.OperationalError):
        KeyValueStore(database, "p").get("a")
    assert database.engine.pool.checkedout() == 0
