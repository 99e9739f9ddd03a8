"""What the pipeline's commands need of an installation: its policy, its state database, its resolver.

What they lead to is imported where it is asked for: a command that lists the queue loads no filter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mailguard.config.decode import ConfigError
from mailguard.config.schema import MainFile, find_config, load_main

if TYPE_CHECKING:
    from mailguard.model.event import Event
    from mailguard.pipeline.engine import Engine
    from mailguard.pipeline.policy import Policy
    from mailguard.pipeline.record import Records
    from mailguard.pipeline.registry import Registry
    from mailguard.state.database import Database
    from mailguard.state.settings import StateSettings


class ConfigFailure(click.ClickException):
    """Something in a file is wrong; every mistake on a line of its own."""

    exit_code = 2


def open_database(settings: StateSettings, data_dir: Path) -> Database:
    """The state database, brought up to date; it is closed when the command ends. Raises ClickException."""
    from mailguard.state.database import Database
    from mailguard.state.migrate import prepare

    if not data_dir.is_dir():
        raise click.ClickException(f"there is no data folder {data_dir}: has the server been started?")
    database = Database(settings, data_dir)
    if command := click.get_current_context(silent=True):
        command.call_on_close(database.close)
    prepare(database)
    return database


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
    def log(self) -> Any:
        """For what a filter has to say while a command runs: standard error."""
        from mailguard.observe.log import Sink, make_log

        return make_log(self.main.log, Sink(None))

    @cached_property
    def registry(self) -> Registry:
        """The plugins that could be loaded."""
        from mailguard.pipeline.configured import registry

        return registry(self.main.policy, self.base)

    @cached_property
    def policy(self) -> Policy:
        """The policy; a mistake in it ends the command."""
        from mailguard.pipeline.configured import policy
        from mailguard.pipeline.source import PolicyError

        try:
            return policy(self.main.policy, self.base)
        except PolicyError as error:
            raise ConfigFailure(str(error)) from None

    def other_policy(self, path: Path) -> Policy:
        """Another policy file with the same plugins."""
        from mailguard.pipeline.compiler import load_policy
        from mailguard.pipeline.source import PolicyError

        try:
            return load_policy(path, self.registry.load, self.registry.names)
        except PolicyError as error:
            raise ConfigFailure(str(error)) from None

    @cached_property
    def database(self) -> Database:
        """The state database."""
        return open_database(self.main.state, self.data_dir)

    def engine(self, records: Records, *, state_dir: Path) -> Engine:
        """An engine for trials: asks the DNS, reads the database where there is one, writes nothing to it."""
        from mailguard.net.resolver import DnsResolver
        from mailguard.pipeline.engine import Engine
        from mailguard.state.history import History
        from mailguard.state.kv import DryStore, KeyValueStore

        database = self.database if self.data_dir.is_dir() else None
        return Engine(
            self.policy,
            dns=DnsResolver(self.main.dns),
            store_for=lambda name: DryStore(KeyValueStore(database, name) if database else None),
            state_dir=state_dir,
            hostname=self.hostname,
            log=self.log,
            recorder=records,
            history=History(database) if database else None,
        )

    @contextlib.contextmanager
    def learning(self, problem: Callable[[str], None]) -> Iterator[Engine]:
        """The filters as the server has them, to be told of something; ``problem`` hears what went wrong there."""
        from mailguard.model.event import PluginFault
        from mailguard.net.resolver import DnsResolver
        from mailguard.observe.log import silent_log
        from mailguard.pipeline.engine import Engine
        from mailguard.pipeline.registry import PluginError
        from mailguard.state.kv import KeyValueStore

        def emit(event: Event) -> None:
            if isinstance(event, PluginFault):
                problem(f"{event.plugin}: {event.error}")

        engine = Engine(
            self.policy,
            dns=DnsResolver(self.main.dns),
            store_for=lambda name: KeyValueStore(self.database, name),
            state_dir=self.data_dir / "plugins",
            hostname=self.hostname,
            log=silent_log(),
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


def find_installation(config: Path | None) -> Installation:
    """The installation of ``-c``, ``$MAILGUARD_CONFIG``, ``./mailguard.toml`` or ``/etc/mailguard/mailguard.toml``."""
    path = find_config(config)
    try:
        return Installation(path, load_main(path))
    except ConfigError as error:
        raise ConfigFailure(str(error)) from None
