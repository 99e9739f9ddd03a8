"""``mailguard serve``."""

from __future__ import annotations

from pathlib import Path

import click

from mailguard.cli.output import config_option, set_option


@click.command()
@config_option
@set_option
def serve(config: Path | None, overrides: tuple[str, ...]) -> int:
    """Run the server until SIGTERM; SIGHUP reloads. Prints `ready` once every port is served."""
    from mailguard.app.supervisor import Supervisor
    from mailguard.config.schema import find_config

    return Supervisor(find_config(config), overrides, say=lambda text: print(text, flush=True)).run()  # noqa: T201
