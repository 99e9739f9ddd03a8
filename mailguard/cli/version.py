"""``mailguard version``."""

from __future__ import annotations

import json
import platform
import sys

import click

from mailguard import __version__
from mailguard.cli.output import json_option


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Print the version of mailguard and of what it runs on."""
    facts = {"mailguard": __version__, "python": platform.python_version(), "system": sys.platform}
    click.echo(json.dumps(facts) if as_json else f"mailguard {__version__} (Python {facts['python']})")
