"""A few plugins made on the spot, and an engine around a policy's text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from mailguard.pipeline.compiler import parse_policy
from mailguard.pipeline.engine import NOTICES, Engine
from mailguard.pipeline.policy import Policy
from mailguard.pipeline.record import Collector, Recorder
from mailguard.pipeline.registry import Plugin, PluginError, Registry, wrap
from mailguard.plugin import Finding, Options, PluginInfo, hookimpl
from mailguard.state.database import Database, metadata
from mailguard.state.history import History
from mailguard.state.settings import StateSettings
from mailguard.testing import FakeClock, FakeResolver, MemoryStore


class SenderOptions(Options):
    limit: int = 3


class Sender:
    """Finds what it is told to, when the sender is given."""

    def __init__(self, name: str = "spf") -> None:
        self.name = name
        self.answer: Callable[[], Any] = lambda: None
        self.calls = 0
        self.log: list[str] = []

    @hookimpl
    def describe(self) -> PluginInfo:
        words = {"pass": "accept", "fail": "junk", "softfail": "score 1.5"}
        return PluginInfo(self.name, words=words, options=SenderOptions, network=True)

    @hookimpl
    def start(self) -> None:
        self.log.append("start")

    @hookimpl
    def stop(self) -> None:
        self.log.append("stop")

    @hookimpl
    def check_sender(self) -> Finding | None:
        self.calls += 1
        return self.answer()


class Content(Sender):
    """The same at the end of DATA; reads what spf found."""

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo(
            self.name, words={"pass": "accept", "spam": "score 5", "reject": "reject"}, after=("spf",), quick=True
        )

    @hookimpl
    def check_sender(self) -> None:
        return None

    @hookimpl
    def check_message(self, findings) -> Finding | None:
        self.calls += 1
        self.seen = dict(findings)
        return self.answer()

    @hookimpl
    def stamp(self, verdict):
        return [("X-Content", f"seen {verdict.action.value}")]


class Greylist(Sender):
    """Finds something for each recipient."""

    @hookimpl
    def describe(self) -> PluginInfo:
        return PluginInfo(self.name, words={"wait": "defer"})

    @hookimpl
    def check_sender(self) -> None:
        return None

    @hookimpl
    def check_recipient(self, recipient) -> Finding | None:
        self.calls += 1
        return Finding("wait", "come back later") if recipient.local == "slow" else None


class Kit:
    """Plugins by name, and what builds policies and engines of them."""

    def __init__(self, folder: Path) -> None:
        self.spf, self.dmarc, self.greylist = Sender("spf"), Content("dmarc"), Greylist("greylist")
        self.clock = FakeClock()
        self.database = Database(StateSettings(), folder)
        metadata.create_all(self.database.engine)
        self.recorder = Recorder(self.database, now=self.clock, interval=60)
        self.folder = folder
        self.events: list[Any] = []
        self.notices = MemoryStore(self.clock)
        self.engines: list[Engine] = []

    def load(self, name: str) -> Plugin:
        plugin = {"spf": self.spf, "dmarc": self.dmarc, "greylist": self.greylist}.get(name)
        if name == getattr(self.greylist, "name", ""):
            plugin = self.greylist
        if plugin is None:
            raise PluginError(f"there is no plugin {name!r}")
        return wrap(plugin)

    def policy(self, text: str) -> Policy:
        return parse_policy("policy.toml", text, self.load, lambda: {"spf": "", "dmarc": "", "greylist": ""})

    def engine(self, text: str = "", **options: Any) -> Engine:
        engine = Engine(
            self.policy(text),
            dns=options.pop("dns", FakeResolver()),
            store_for=lambda name: self.notices if name == NOTICES else MemoryStore(self.clock),
            state_dir=self.folder,
            hostname="mx.example.org",
            log=structlog.get_logger(),
            emit=self.events.append,
            recorder=self.recorder,
            history=History(self.database),
            now=self.clock,
            **options,
        )
        engine.start()
        self.engines.append(engine)
        return engine


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    kit = Kit(tmp_path)
    yield kit
    for engine in kit.engines:
        engine.stop()
    kit.recorder.stop()
    kit.database.close()


@pytest.fixture
def registry() -> Registry:
    """Where the bundled plugins are found."""
    registry = Registry()
    if "spf" not in registry.names():
        pytest.skip("the bundled plugins are not installed")
    return registry


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Callable[[Policy, dict[str, str]], tuple[Engine, Collector]]]:
    """Makes an engine of real plugins over a zone, and what collects its records."""
    engines: list[Engine] = []

    def make(policy: Policy, zone: dict[str, str]) -> tuple[Engine, Collector]:
        collector = Collector()
        engine = Engine(
            policy,
            dns=FakeResolver(zone),
            store_for=lambda _: MemoryStore(),
            state_dir=tmp_path,
            hostname="mx.example.org",
            log=structlog.get_logger(),
            recorder=collector,
            now=FakeClock(),
        )
        engine.start()
        engines.append(engine)
        return engine, collector

    yield make
    for engine in engines:
        engine.stop()
