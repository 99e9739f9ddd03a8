"""Counters of everything that happens, of all workers together, as Prometheus reads them.

Each worker counts for itself and saves its sums into a file of a folder every second; whoever is asked adds them up.
Files of workers that have died still count, so that a sum never falls while the server runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailguard.model.event import (
    Accepted,
    Bounced,
    Deferred,
    Delivered,
    Event,
    Flagged,
    Held,
    Moved,
    PluginFault,
    Refused,
    SignedIn,
)

HELP: Mapping[str, str] = {
    "mailguard_messages_accepted": "Messages that got their 250, by direction.",
    "mailguard_octets_accepted": "Octets of these messages.",
    "mailguard_refused": "Connections, senders, recipients and messages refused, by stage and code.",
    "mailguard_deliveries": "Copies put into mailboxes (here) and recipients taken by other servers (away).",
    "mailguard_deferrals": "Attempts that must be repeated.",
    "mailguard_bounces": "Recipients given up.",
    "mailguard_held": "Messages held back for a decision.",
    "mailguard_moves": "Messages that users moved between mailboxes: into Junk, out of it, elsewhere.",
    "mailguard_flag_changes": "Changes of flags that plugins were told of.",
    "mailguard_sign_ins": "Sign-ins, by protocol and result.",
    "mailguard_plugin_faults": "Exceptions and missed deadlines of plugins.",
    "mailguard_web_answers": "Answers of the web server, by page and status.",
    "mailguard_connections": "Mail connections open now.",
    "mailguard_queue_recipients": "Recipients in the queue now, by state.",
    "mailguard_queue_oldest_seconds": "Age of the oldest message that waits in the queue.",
    "mailguard_disk_free_octets": "Free space of the file system with the mail.",
    "mailguard_queue_runner_seen_seconds": "Seconds since the queue runner was last at work.",
    "mailguard_workers": "Worker processes.",
    "mailguard_build_info": "1, with the version as label.",
}
"""Every metric; the names of counters get ``_total`` behind them."""

_Labels = tuple[tuple[str, str], ...]
_MOST = 2_000  # combinations of labels; what comes after is not counted apart


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric that is not a counter."""

    name: str
    value: float
    labels: _Labels = ()


class Metrics:
    """One worker's counters. ``folder`` None keeps them in memory alone. Safe for threads."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, _Labels], float] = {}
        self._gauges: dict[str, float] = {}
        self._changed = True

    def count(self, name: str, amount: float = 1.0, **labels: str) -> None:
        """Adds to a counter."""
        key = (name, tuple(sorted(labels.items())))
        with self._lock:
            if key not in self._counts and len(self._counts) >= _MOST:
                key = (name, ())
            self._counts[key] = self._counts.get(key, 0.0) + amount
            self._changed = True

    def gauge(self, name: str, value: float) -> None:
        """Sets this worker's part of a value that is the sum of all workers'."""
        with self._lock:
            if self._gauges.get(name) != value:
                self._gauges[name] = value
                self._changed = True

    def observe(self, event: Event) -> None:
        """Counts an event."""
        match event:
            case Accepted():
                direction = "out" if event.user else "in"
                self.count("mailguard_messages_accepted", direction=direction)
                self.count("mailguard_octets_accepted", event.size, direction=direction)
                if copies := _copies(event):
                    self.count("mailguard_deliveries", copies, where="here")
            case Refused():
                self.count("mailguard_refused", stage=event.stage, code=str(event.reply.code))
            case Delivered():
                self.count("mailguard_deliveries", where="here" if event.where.startswith("local") else "away")
            case Deferred():
                self.count("mailguard_deferrals")
            case Bounced():
                self.count("mailguard_bounces")
            case Held():
                self.count("mailguard_held")
            case Moved():
                self.count("mailguard_moves", into=_side(event))
            case Flagged():
                self.count("mailguard_flag_changes")
            case SignedIn():
                self.count("mailguard_sign_ins", protocol=event.protocol, result="ok" if event.ok else "refused")
            case PluginFault():
                self.count("mailguard_plugin_faults", plugin=event.plugin)
            case _:
                pass

    def save(self) -> None:
        """Writes the sums for other workers to see, if they have changed. Never raises."""
        with self._lock:
            if self._folder is None or not self._changed:
                return
            self._changed = False
            state = self._state()
        path = self._folder / f"{os.getpid()}.json"
        with contextlib.suppress(OSError):
            fresh = path.with_suffix(".new")
            fresh.write_text(json.dumps(state))
            fresh.replace(path)

    def _state(self) -> dict[str, Any]:
        return {"counts": [[name, labels, n] for (name, labels), n in self._counts.items()], "gauges": self._gauges}

    def text(self, samples: Iterable[Sample] = ()) -> bytes:
        """Everything, of all workers, in Prometheus' text format; ``samples`` are added to it."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

        self.save()
        counts, gauges = self._sums()
        families: dict[str, Metric] = {}
        for (name, labels), value in sorted(counts.items()):
            counter = families.setdefault(name, CounterMetricFamily(name, HELP[name]))
            counter.add_sample(f"{name}_total", dict(labels), value)
        live = [Sample(name, value) for name, value in sorted(gauges.items())]
        for sample in [*live, *samples]:
            family = families.setdefault(sample.name, GaugeMetricFamily(sample.name, HELP[sample.name]))
            family.add_sample(sample.name, dict(sample.labels), sample.value)

        class Given:
            def collect(self) -> Iterable[Metric]:
                return families.values()

        registry = CollectorRegistry(auto_describe=False)
        registry.register(Given())
        return generate_latest(registry)

    def _sums(self) -> tuple[dict[tuple[str, _Labels], float], dict[str, float]]:
        states = [self._state()] if self._folder is None else _read(self._folder)
        counts: dict[tuple[str, _Labels], float] = {}
        gauges: dict[str, float] = {}
        for state in states:
            for name, labels, value in state["counts"]:
                key = (name, tuple((str(k), str(v)) for k, v in labels))
                counts[key] = counts.get(key, 0.0) + value
            for name, value in state["gauges"].items():
                gauges[name] = gauges.get(name, 0.0) + value
        return counts, gauges


def clear(folder: Path) -> None:
    """Begins anew, at the start of a server. Raises OSError."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for path in folder.glob("*.json"):
        path.unlink()


def _read(folder: Path) -> list[dict[str, Any]]:
    states = []
    for path in folder.glob("*.json"):
        with contextlib.suppress(OSError, ValueError):
            state: dict[str, Any] = json.loads(path.read_text())
            if not _alive(int(path.stem)):
                state["gauges"] = {}
            states.append(state)
    return states


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _copies(event: Accepted) -> int:
    """How many mailboxes had it before the 250; what waits in the queue is told of as it is delivered."""
    places = [place.partition("/") for _, told in event.stored for place in told.split(", ")]
    return sum(bool(mailbox) and "@" in account and " " not in account for account, _, mailbox in places)


def _side(event: Moved) -> str:
    return {"spam": "junk", "ham": "not junk"}.get(event.says, "elsewhere")
