"""``mailguard serve``."""

from __future__ import annotations

import gc
from pathlib import Path

import click

from mailguard.cli.output import config_option, set_option


@click.command()
@config_option
@set_option
def serve(config: Path | None, overrides: tuple[str, ...]) -> None:
    """Run the server until SIGTERM; SIGHUP reloads. Prints `ready` once every port is served."""
    gc.disable()  # nothing becomes garbage while modules load; the supervisor switches it on
    from mailguard.app.resume import sleep
    from mailguard.app.supervisor import Supervisor
    from mailguard.config.schema import find_config

    supervisor = Supervisor(find_config(config), overrides)
    supervisor.start(lambda text: print(text, flush=True))  # noqa: T201
    sleep(supervisor)
