"""``mailguard serve``."""

from __future__ import annotations

from pathlib import Path

import click

from mailguard.app.begin import become_server
from mailguard.cli.output import config_option, set_option


@click.command()
@config_option
@set_option
def serve(config: Path | None, overrides: tuple[str, ...]) -> None:
    """Run the server until SIGTERM; SIGHUP reloads. Prints `ready` once every port is served."""
    become_server(config, overrides)
