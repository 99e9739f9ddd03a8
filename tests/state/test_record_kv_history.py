from __future__ import annotations

import pytest

from mailguard.pipeline.record import Recorder
from mailguard.state import history, record
from mailguard.state.database import Database, metadata
from mailguard.state.history import Meeting
from mailguard.state.kv import KeyValueStore
from mailguard.state.settings import StateSettings
from mailguard.testing import FakeClock


@pytest.fixture
def database(tmp_path):
    database = Database(StateSettings(), tmp_path)
    metadata.create_all(database.engine)
    yield database
    database.close()


def test_values_live_as_long_as_they_may(database):
    clock = FakeClock()
    store, other = KeyValueStore(database, "a", clock), KeyValueStore(database, "b", clock)
    store.put("x_1", {"n": 1}, ttl=10)
    store.put("x%2", [2])
    assert store.get("x_1") == {"n": 1}
    assert other.get("x_1") is None
    assert store.put_if_absent("x_1", 5) == {"n": 1}
    assert store.items("x_") == [("x_1", {"n": 1})]
    clock.tick(10)
    assert store.get("x_1") is None
    assert store.put_if_absent("x_1", 5) == 5
    store.delete("x_1")
    assert store.items() == [("x%2", [2])]
    with pytest.raises(ValueError, match="512"):
        store.put("k" * 600, 1)


def test_many_values_at_once(database):
    clock = FakeClock(1000.0)
    store, other = KeyValueStore(database, "greylist", clock), KeyValueStore(database, "other", clock)
    other.put("k1", "theirs")
    store.put("k1", "old")
    store.put_all({f"k{n}": n for n in range(250)}, ttl=60)
    store.put_all({})
    assert store.get_all(["k1", "k249", "gone"]) == {"k1": 1, "k249": 249}
    assert len(store.get_all([f"k{n}" for n in range(250)])) == 250 and store.get_all([]) == {}
    assert other.get_all(["k1", "k2"]) == {"k1": "theirs"}
    clock.tick(61)
    assert store.get_all(["k1", "k2"]) == {}
    with pytest.raises(ValueError, match="65536"):
        store.put_all({"big": "x" * 70_000})


def test_correspondents_are_known_after_we_wrote_or_two_passes(database):
    known = history.History(database)
    with database.write() as connection:
        history.note(connection, [Meeting("a@x", True, 1.0), Meeting("b@x", True, 1.0), Meeting("c@x", False, 1.0)])
    assert known.known("a@x")
    assert not known.known("c@x")
    assert not known.known("")
    with database.write() as connection:
        history.note(connection, [Meeting("c@x", False, 2.0), Meeting("", False, 2.0)])
    assert known.known("c@x") == history.Known(0, 2)
    with database.write() as connection:
        history.note(connection, [Meeting("c@x", wrote, 2.0) for wrote in (True, False, False)])
        history.note(connection, [Meeting("d@x", False, 2.0)] * 3)
    assert known.known("c@x") == history.Known(1, 4)
    assert known.known("d@x") == history.Known(0, 3)
    with database.write() as connection:
        assert history.prune(connection, 2.0 + history.FORGET_AFTER) == 2


def row(n: int, **values):
    empty = dict.fromkeys(["session", "peer_ip", "account", "mail_from", "author", "rcpt", "decision", "place"], "")
    return {
        **empty,
        "id": f"M{n}",
        "at": float(n),
        "stage": "message",
        "subject": f"Number {n}",
        "message_id": f"<{n}@x>",
        "size": 1,
        "action": "accept",
        "score": 0.0,
        "reply": "",
        "data": {"facts": {}},
        **values,
    }


def test_records_are_found_searched_and_pruned(database):
    recorder = Recorder(database, now=lambda: 1000.0, interval=60, keep_days=1, keep_records=2)
    for n in range(1, 5):
        recorder.verdict(row(n, mail_from=f"a{n}@x", subject=f"bad \ud800 number {n}\0"))
    recorder.note("M2", "stored", "ann@x", "ann@x/INBOX")
    recorder.stop()
    assert [r.id for r in record.find(database, "2@x")] == ["M2"]
    assert record.find(database, "M2")[0].events[0].who == "ann@x"
    found = record.search(database, record.Query(sender="A3", subject="NUMBER bad"))
    assert [r.id for r in found] == ["M3"]
    assert [r.id for r in record.since(database, 3.0)] == ["M3", "M4"]
    assert recorder.prune() == 2
    assert [r.id for r in record.since(database, 0)] == ["M3", "M4"]


def test_only_rows_that_are_made_give_others_a_turn(database, monkeypatch):
    rests = []
    monkeypatch.setattr("mailguard.pipeline.record.time.sleep", rests.append)
    recorder = Recorder(database, interval=60, now=lambda: 1000.0)
    for n in range(95):
        recorder.note(f"M{n}", "deferred", "ann@x", "451 later")  # a queue that is put off as a whole
    recorder.flush()
    assert not rests
    for n in range(25):
        recorder.verdict(row(n))
    recorder.flush()
    assert len(rests) == 2
    recorder.stop()
    assert len(list(record.since(database, 0))) == 25


def test_records_wait_while_the_database_is_away_and_the_oldest_go_first(database, monkeypatch):
    recorder = Recorder(database, interval=60, capacity=3)
    monkeypatch.setattr(recorder, "_database", Database(StateSettings(url="sqlite:////nonexistent/x.db"), None))
    for n in range(5):
        recorder.verdict(row(n))
    recorder.flush()
    assert recorder.lost == 2
    monkeypatch.setattr(recorder, "_database", database)
    recorder.stop()
    assert [r.id for r in record.since(database, 0)] == ["M2", "M3", "M4"]
