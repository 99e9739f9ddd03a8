"""``mailguard ban``: who may not sign in just now, why, and how to let them in again."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailguard.cli.output import config_option, fail, json_option, print_rows

if TYPE_CHECKING:
    from mailguard.auth.throttle import Throttle


@click.group()
def ban() -> None:
    """Networks that tried too many wrong passwords."""


def _throttle(config: Path | None) -> Throttle:
    from mailguard.auth.throttle import Throttle
    from mailguard.cli.installation import open_database
    from mailguard.config.schema import find_config, load_config

    loaded = load_config(find_config(config))
    return Throttle(open_database(loaded.main.state, loaded.data_dir), loaded.main.auth)


@ban.command(name="list")
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """List the bans that stand, the newest first; every one ends by itself."""
    now = time.time()
    rows = [
        {
            "network": found.network,
            "account": found.account or None,
            "reason": found.reason,
            "since": time.strftime("%Y-%m-%d %H:%M", time.localtime(found.since)),
            "minutes_left": max(1, round((found.until - now) / 60)),
        }
        for found in _throttle(config).bans()
    ]
    columns = ("network", "account", "reason", "since", "minutes_left")
    print_rows(columns, rows, as_json=as_json, empty="nobody is banned")


@ban.command()
@click.argument("network")
@config_option
def remove(network: str, config: Path | None) -> None:
    """Lift the bans of NETWORK, an address or a network as `ban list` shows it."""
    lifted = _throttle(config).lift(network)
    if not lifted:
        raise fail(f"there is no ban on {network}; `mailguard ban list` shows them all")
    click.echo(f"{network} may sign in again. Put it into `allow` of [auth] if it should never be banned.")
