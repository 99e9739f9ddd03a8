"""What commands print: tables for people, JSON for programs; and the options they share."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

config_option = click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="mailguard.toml; default: $MAILGUARD_CONFIG, ./mailguard.toml, /etc/mailguard/mailguard.toml",
)
json_option = click.option("--json", "as_json", is_flag=True, help="print JSON instead of text")
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="set anything of mailguard.toml, such as workers=1"
)


def print_rows(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, as_json: bool, empty: str = "") -> None:
    """Rows as a table with these columns (keys of the rows), or all of their keys as JSON."""
    if as_json:
        click.echo(json.dumps(list(rows), indent=2, default=str))
        return
    if not rows:
        click.echo(empty or "none")
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    Console().print(table)


def _cell(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(escape(str(item)) for item in value)
    return escape(str(value))


def fail(text: str) -> click.ClickException:
    """The error that ends a command with one line and exit code 1; to be raised."""
    return click.ClickException(text)


def local_time(at: float) -> str:
    """A Unix time for people, in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else "never"
