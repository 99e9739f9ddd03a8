"""Health: each thing that can be wrong is said, and nothing else."""

from __future__ import annotations

import collections
import shutil
from pathlib import Path

import pytest

from mailguard.app.health import BEAT, Health
from mailguard.state.database import Database, metadata
from mailguard.state.settings import StateSettings
from mailguard.testing import FakeClock


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(StateSettings(connections=1), tmp_path)
    metadata.create_all(made.engine)
    return made


def test_all_is_well_and_the_runner_may_fall_silent(database: Database, tmp_path: Path) -> None:
    clock = FakeClock()
    health = Health(database, tmp_path, now=clock)
    assert health.troubles() == ()
    clock.tick(61)
    assert health.troubles() == ("the queue runner has not been at work for 61 s",)
    health.beat()
    clock.tick(1)
    assert health.troubles() == () and (tmp_path / BEAT).exists()
    clock.tick(59.5)
    assert len(health.troubles()) == 1
    assert len(Health(database, tmp_path, now=clock).troubles()) == 0  # has just started


def test_a_full_disk(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 30, 1 << 30, 5 << 20))
    assert Health(database, tmp_path).troubles() == ("the disk is full: 5 MiB are free",)


def test_a_database_that_is_gone(database: Database, tmp_path: Path) -> None:
    clock = FakeClock()
    health = Health(database, tmp_path, now=clock)
    database.close()
    for path in tmp_path.glob("state.db*"):
        path.unlink()
    (tmp_path / "state.db").mkdir()
    (trouble,) = health.troubles()
    assert trouble.startswith("the state database does not answer")
    assert health.troubles() is health.troubles()  # asked once a second at most
    assert {s.name for s in health.samples()} >= {"mailguard_build_info", "mailguard_disk_free_octets"}


def test_samples_of_the_queue(database: Database, tmp_path: Path) -> None:
    samples = {(s.name, s.labels): s.value for s in Health(database, tmp_path).samples()}
    assert samples["mailguard_queue_recipients", (("state", "waiting"),)] == 0
    assert samples["mailguard_queue_oldest_seconds", ()] == 0
