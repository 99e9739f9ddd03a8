"""``mailguard doctor``: looks at everything that tends to go wrong, and names the cure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mailguard.cli.doctor_line import Line, fail, ok
from mailguard.cli.output import config_option, json_option

if TYPE_CHECKING:
    from mailguard.app.plan import Plan
    from mailguard.config.schema import Config

_COLOUR = {"ok": "green", "warn": "yellow", "fail": "bold red"}


@click.command()
@config_option
@json_option
@click.option("--offline", is_flag=True, help="ask nothing of the DNS and of other servers")
def doctor(config: Path | None, as_json: bool, offline: bool) -> int:
    """Look at everything that tends to go wrong. Exit code 1 if something has; 2 if the configuration is bad."""
    from mailguard.config.schema import find_config

    lines: list[Line] = []
    for found in examine(find_config(config), offline=offline):
        lines.append(found)
        if not as_json:
            _print(found)
    if as_json:
        click.echo(json.dumps([asdict(found) for found in lines], indent=1))
    else:
        bad, doubtful = (sum(found.mark == mark for found in lines) for mark in ("fail", "warn"))
        click.echo(f"{len(lines)} looked at, {bad} bad, {doubtful} doubtful")
    if any(found.area == "configuration" and found.mark == "fail" for found in lines):
        return 2
    return int(any(found.mark == "fail" for found in lines))


def examine(path: Path, *, offline: bool = False) -> Iterator[Line]:
    """Every line, as it is found out; a part that cannot be looked at is a line, too."""
    from mailguard.app.plan import make_plan
    from mailguard.config.decode import ConfigError
    from mailguard.config.schema import load_config

    config: Config | None = None
    plan: Plan | None = None
    try:
        config = load_config(path)
        plan = make_plan(config)
    except ConfigError as error:
        for problem in error.problems:
            yield fail("configuration", str(problem), "`mailguard check` shows this alone")
    else:
        yield ok("configuration", f"{path}: {len(config.directory.domains)} domains, {len(plan.policy.checks)} checks")
    if config is not None:
        for part in _parts(config, plan, offline):
            try:
                yield from part()
            except Exception as error:
                text = " ".join(str(error).split()) or type(error).__name__
                yield fail(
                    getattr(part, "__name__", "doctor").strip("_"), text, "run again as root, or as the server's user"
                )


def _parts(config: Config, plan: Plan | None, offline: bool) -> list[Callable[[], Iterator[Line]]]:
    from mailguard.app.pidfile import signal_server
    from mailguard.cli import doctor_machine as machine
    from mailguard.cli import doctor_service as service

    def named(check: Callable[..., Iterator[Line]], *arguments: Any, **more: Any) -> Callable[[], Iterator[Line]]:
        def run() -> Iterator[Line]:
            return check(*arguments, **more)

        run.__name__ = check.__name__
        return run

    def state() -> Iterator[Line]:
        yield from _state(config, plan)

    running = signal_server(config.data_dir, 0)
    parts = [
        named(machine.folders, config),
        named(machine.secrets, config),
        named(machine.disk, config),
        named(machine.clock),
        named(machine.limits, config),
        named(machine.watches, config),
        named(service.ports, config, running=running),
        named(service.certificates, config),
        named(service.signing, config),
        state,
    ]
    return parts if offline else [*parts, named(service.dns, config)]


def _state(config: Config, plan: Plan | None) -> Iterator[Line]:
    """What the state database tells."""
    from mailguard.cli import doctor_service as service
    from mailguard.state.database import Database

    if not config.main.state.url and not (config.data_dir / "state.db").exists():
        yield fail(
            "accounts", "there is no state database yet, so nobody has a password", "`mailguard user add ADDRESS`"
        )
        return
    database = Database(config.main.state, config.data_dir)
    began = time.monotonic()
    with database.read() as connection:
        connection.exec_driver_sql("SELECT 1")
    yield ok("state", f"the database answers in {(time.monotonic() - began) * 1000:.0f} ms")
    try:
        yield from service.accounts(config, database)
        yield from service.queue(database)
        if plan is not None:
            yield from service.plugins(plan.policy, database)
    finally:
        database.close()


def _print(found: Line) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True)
    console.print(Text.assemble((f"{found.mark:<5}", _COLOUR[found.mark]), (f"{found.area:<14}", "dim"), found.text))
    if found.cure:
        console.print(Text.assemble(" " * 5, ("cure: ", "italic"), found.cure))
