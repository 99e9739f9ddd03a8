"""What the pipeline's commands need of an installation: its policy, its state database, its resolver."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import structlog

from mailguard.config.decode import ConfigError
from mailguard.config.schema import MainFile, find_config, load_main
from mailguard.model.event import Event, PluginFault
from mailguard.net.resolver import DnsResolver
from mailguard.pipeline import settings
from mailguard.pipeline.compiler import load_policy
from mailguard.pipeline.engine import Engine
from mailguard.pipeline.policy import Policy
from mailguard.pipeline.record import Records
from mailguard.pipeline.registry import PluginError, Registry
from mailguard.pipeline.source import PolicyError
from mailguard.state.database import Database
from mailguard.state.history import History
from mailguard.state.kv import DryStore, KeyValueStore
from mailguard.state.migrate import prepare


class ConfigFailure(click.ClickException):
    """Something in a file is wrong; every mistake on a line of its own."""

    exit_code = 2


@dataclass(frozen=True)
class Installation:
    """One configuration file and what it leads to; nothing is opened before it is asked for."""

    path: Path
    main: MainFile

    @property
    def base(self) -> Path:
        """The folder of the configuration."""
        return self.path.parent

    @property
    def data_dir(self) -> Path:
        """The data folder."""
        return self.base / self.main.data_dir

    @property
    def hostname(self) -> str:
        """Our own name."""
        return self.main.hostname

    @cached_property
    def registry(self) -> Registry:
        """The plugins that could be loaded."""
        return settings.registry(self.main.policy, self.base)

    @cached_property
    def policy(self) -> Policy:
        """The policy; a mistake in it ends the command."""
        try:
            return settings.policy(self.main.policy, self.base)
        except PolicyError as error:
            raise ConfigFailure(str(error)) from None

    def other_policy(self, path: Path) -> Policy:
        """Another policy file with the same plugins."""
        try:
            return load_policy(path, self.registry.load, self.registry.names)
        except PolicyError as error:
            raise ConfigFailure(str(error)) from None

    @cached_property
    def database(self) -> Database:
        """The state database."""
        if not self.data_dir.is_dir():
            raise click.ClickException(f"there is no data folder {self.data_dir}: has the server been started?")
        database = Database(self.main.state, self.data_dir)
        prepare(database)
        return database

    def engine(self, records: Records, *, state_dir: Path) -> Engine:
        """An engine for trials: asks the DNS, reads the database where there is one, writes nothing to it."""
        database = self.database if self.data_dir.is_dir() else None
        return Engine(
            self.policy,
            dns=DnsResolver(self.main.dns),
            store_for=lambda name: DryStore(KeyValueStore(database, name) if database else None),
            state_dir=state_dir,
            hostname=self.hostname,
            log=structlog.get_logger(),
            recorder=records,
            history=History(database) if database else None,
        )

    @contextlib.contextmanager
    def learning(self, problem: Callable[[str], None]) -> Iterator[Engine]:
        """The filters as the server has them, to be told of something; ``problem`` hears what went wrong there."""

        def emit(event: Event) -> None:
            if isinstance(event, PluginFault):
                problem(f"{event.plugin}: {event.error}")

        engine = Engine(
            self.policy,
            dns=DnsResolver(self.main.dns),
            store_for=lambda name: KeyValueStore(self.database, name),
            state_dir=self.data_dir / "plugins",
            hostname=self.hostname,
            log=structlog.wrap_logger(structlog.PrintLogger(), processors=[_silent]),
            emit=emit,
        )
        try:
            engine.start()
        except PluginError as error:
            problem(str(error))
        try:
            yield engine
        finally:
            engine.stop()


def _silent(*_: Any) -> Any:
    raise structlog.DropEvent


def find_installation(config: Path | None) -> Installation:
    """The installation of ``-c``, ``$MAILGUARD_CONFIG``, ``./mailguard.toml`` or ``/etc/mailguard/mailguard.toml``."""
    path = find_config(config)
    try:
        return Installation(path, load_main(path))
    except ConfigError as error:
        raise ConfigFailure(str(error)) from None


config_option = click.option(
    "-c", "--config", type=click.Path(path_type=Path, dir_okay=False), help="mailguard.toml", default=None
)
json_option = click.option("--json", "as_json", is_flag=True, help="print JSON instead of text")
