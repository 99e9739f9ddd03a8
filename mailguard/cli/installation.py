"""What the pipeline's commands need of an installation: its policy, its state database, its resolver."""

from __future__ import annotations

import contextlib
import os
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click
import structlog

from mailguard.model.event import Event, PluginFault
from mailguard.net.resolver import DnsResolver, DnsSettings
from mailguard.pipeline import settings
from mailguard.pipeline.compiler import load_policy
from mailguard.pipeline.engine import Engine
from mailguard.pipeline.policy import Policy
from mailguard.pipeline.record import Records
from mailguard.pipeline.registry import PluginError, Registry
from mailguard.pipeline.source import PolicyError
from mailguard.state.database import Database, StateSettings, metadata
from mailguard.state.history import History
from mailguard.state.kv import DryStore, KeyValueStore

SYSTEM = Path("/etc/mailguard/mailguard.toml")


class ConfigFailure(click.ClickException):
    """Something in a file is wrong; every mistake on a line of its own."""

    exit_code = 2


@dataclass(frozen=True)
class Installation:
    """One configuration file and what it leads to; nothing is opened before it is asked for."""

    path: Path
    data: dict[str, Any]

    @property
    def base(self) -> Path:
        """The folder of the configuration."""
        return self.path.parent

    @property
    def data_dir(self) -> Path:
        """The data folder."""
        return self.base / str(self.data.get("data_dir", "data"))

    @property
    def hostname(self) -> str:
        """Our own name."""
        return str(self.data.get("hostname", "localhost"))

    @cached_property
    def policy_settings(self) -> settings.PolicySettings:
        """``[policy]``."""
        return settings.PolicySettings.model_validate(self.data.get("policy", {}))

    @cached_property
    def registry(self) -> Registry:
        """The plugins that could be loaded."""
        return settings.registry(self.policy_settings, self.base)

    @cached_property
    def policy(self) -> Policy:
        """The policy; a mistake in it ends the command."""
        try:
            return settings.policy(self.policy_settings, self.base)
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
        database = Database(StateSettings.model_validate(self.data.get("state", {})), self.data_dir)
        metadata.create_all(database.engine)
        return database

    def engine(self, records: Records, *, state_dir: Path) -> Engine:
        """An engine for trials: asks the DNS, reads the database where there is one, writes nothing to it."""
        database = self.database if self.data_dir.is_dir() else None
        return Engine(
            self.policy,
            dns=DnsResolver(DnsSettings.model_validate(self.data.get("dns", {}))),
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
            dns=DnsResolver(DnsSettings.model_validate(self.data.get("dns", {}))),
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
    named = config or (Path(os.environ["MAILGUARD_CONFIG"]) if os.environ.get("MAILGUARD_CONFIG") else None)
    path = named or (Path("mailguard.toml") if Path("mailguard.toml").exists() else SYSTEM)
    try:
        return Installation(path.absolute(), tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise ConfigFailure(f"{path}: {error.strerror} (give the file with -c)") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigFailure(f"{path}: {error}") from None


config_option = click.option(
    "-c", "--config", type=click.Path(path_type=Path, dir_okay=False), help="mailguard.toml", default=None
)
json_option = click.option("--json", "as_json", is_flag=True, help="print JSON instead of text")
