"""A model that is gone, damaged or made for other features is made anew from the journal and the mail there is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from mailguard.plugin import Accepted, Moved
from mailguard.testing import Harness, make_message
from mailguard_spamscore import spamscore

ANN = "ann@example.org"


def spam(n: int) -> bytes:
    return bytes(make_message(f"Claim prize {n} now.\n", subject="Prize", headers=[("Message-ID", f"<s{n}@x>")]))


def ham(n: int) -> bytes:
    return bytes(make_message(f"Minutes of meeting {n}.\n", subject="Minutes", headers=[("Message-ID", f"<h{n}@x>")]))


def stored(account: str) -> Iterable[bytes]:
    return [make(n) for n in range(12) for make in (spam, ham)] if account == ANN else []


def taught(folder: Path) -> float:
    """Teaches Ann's mail and returns what a further one of its kind scores."""
    file = folder / "mail.eml"
    with Harness(spamscore, state_dir=folder) as server:
        for n in range(12):
            for raw, source, target in ((spam(n), "INBOX", "Junk"), (ham(n), "Junk", "INBOX")):
                file.write_bytes(raw)
                server.observe(Moved(1.0, f"M{n}", ANN, source, target, str(file)))
        return points(server)


def accepted() -> Accepted:
    return Accepted(1.0, "M-test", "S1", "", "alice@example.net", (ANN,), 100, ((ANN, f"{ANN}/INBOX"),))


def points(server: Harness) -> float:
    return spamscore.desk(server.ctx).explain(spam(99), ANN, 1.0).points


def wait_for(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)


def other_features(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:8] + (99).to_bytes(4, "little") + data[12:])


def cut_short(path: Path) -> None:
    os.truncate(path, 5000)


@pytest.mark.parametrize("harm", [other_features, cut_short, Path.unlink])
@pytest.mark.parametrize("names", [["global"], [f"account/{ANN}"], ["global", f"account/{ANN}"]])
def test_lost_models_are_made_anew(tmp_path, harm, names):
    assert taught(tmp_path) >= 6
    for name in names:
        harm(tmp_path / f"{name}.spam")
    with Harness(spamscore, state_dir=tmp_path) as server:
        cold = points(server)
    with Harness(spamscore, state_dir=tmp_path, stored=stored) as server:
        points(server)  # a personal model may be found damaged when it is first wanted only, and is looked after later
        while any(tmp_path.rglob("*.old")):
            server.now.tick(61)
            server.observe(accepted())
            time.sleep(0.01)
        assert cold < points(server)
        assert points(server) >= 6
        (row,) = spamscore.desk(server.ctx).stats()
        assert (row.ham, row.spam) == (12, 12)


def test_a_server_stopped_in_between_goes_on_at_its_next_start(tmp_path):
    taught(tmp_path)
    other_features(tmp_path / "global.spam")

    def endless(account: str) -> Iterable[bytes]:
        while True:
            yield from stored(account)

    with Harness(spamscore, state_dir=tmp_path, stored=endless):
        pass
    assert (tmp_path / "global.old").exists()
    with Harness(spamscore, state_dir=tmp_path, stored=stored) as server:
        wait_for(lambda: not (tmp_path / "global.old").exists())
        assert points(server) >= 6


def test_without_mail_at_hand_nothing_is_given_up(tmp_path):
    taught(tmp_path)
    other_features(tmp_path / "global.spam")
    with Harness(spamscore, state_dir=tmp_path):
        pass
    assert (tmp_path / "global.old").exists()
