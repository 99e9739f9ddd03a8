"""Counters of several workers, added up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mailguard.model.event import (
    Accepted,
    Bounced,
    Deferred,
    Delivered,
    Event,
    Held,
    Moved,
    PluginFault,
    Refused,
    SignedIn,
)
from mailguard.model.reply import Reply
from mailguard.observe.metrics import HELP, Metrics, Sample, clear

REPLY = Reply.of(550, "5.7.1", "no")
STORED = (("b@y", "b@y/INBOX, ann@y/INBOX"), ("c@y", "c@y/Junk"), ("d@y", "queue"), ("e@y", "refused: 452 see a@b/c"))
EVENTS: list[tuple[Event, str]] = [
    (Accepted(1, "m", "s", "ann", "a@x", ("b@y",), 10), 'mailguard_messages_accepted_total{direction="out"} 1.0'),
    (Accepted(1, "m", "s", "", "a@x", ("b@y",), 10), 'mailguard_octets_accepted_total{direction="in"} 10.0'),
    (Refused(1, "m", "recipient", "s", "192.0.2.1", "", "", REPLY), 'refused_total{code="550",stage="recipient"} 1.0'),
    (Delivered(1, "m", "b@y", "mx.y[192.0.2.1]:25"), 'mailguard_deliveries_total{where="away"} 1.0'),
    (Delivered(1, "m", "b@y", "local"), 'mailguard_deliveries_total{where="here"} 1.0'),
    (Accepted(1, "m", "s", "", "a@x", ("b@y", "c@y"), 10, STORED), 'mailguard_deliveries_total{where="here"} 3.0'),
    (Deferred(1, "m", "b@y", REPLY, 2), "mailguard_deferrals_total 1.0"),
    (Bounced(1, "m", "b@y", REPLY), "mailguard_bounces_total 1.0"),
    (Held(1, "m", "why"), "mailguard_held_total 1.0"),
    (Moved(1, "m", "ann", "INBOX", "Junk", "p"), 'mailguard_moves_total{into="junk"} 1.0'),
    (Moved(1, "m", "ann", "Junk", "INBOX", "p"), 'mailguard_moves_total{into="not junk"} 1.0'),
    (SignedIn(1, "", "ann", "imap", "192.0.2.1", True), 'sign_ins_total{protocol="imap",result="ok"} 1.0'),
    (PluginFault(1, "", "spf", "E", False), 'mailguard_plugin_faults_total{plugin="spf"} 1.0'),
]


@pytest.mark.parametrize(("event", "line"), EVENTS)
def test_events_are_counted(event: Event, line: str) -> None:
    metrics = Metrics()
    metrics.observe(event)
    assert line in metrics.text().decode()


def test_workers_are_added_up_and_the_dead_keep_their_counts(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    clear(folder)
    dead = {"counts": [["mailguard_bounces", [], 3]], "gauges": {"mailguard_connections": 7}}
    (folder / "999999999.json").write_text(json.dumps(dead))
    (folder / "1.json").write_text("half a fi")
    metrics = Metrics(folder)
    metrics.count("mailguard_bounces")
    metrics.gauge("mailguard_connections", 2)
    text = metrics.text([Sample("mailguard_queue_recipients", 4, (("state", "held"),))]).decode()
    assert "mailguard_bounces_total 4.0" in text
    assert "mailguard_connections 2.0" in text
    assert 'mailguard_queue_recipients{state="held"} 4.0' in text
    assert (
        "# TYPE mailguard_bounces_total counter" in text
        and f"# HELP mailguard_connections {HELP['mailguard_connections']}" in text
    )
    clear(folder)
    assert not list(folder.glob("*.json"))


def test_labels_are_bounded() -> None:
    metrics = Metrics()
    for number in range(2_100):
        metrics.count("mailguard_plugin_faults", plugin=str(number))
    assert "mailguard_plugin_faults_total 100.0" in metrics.text().decode()
