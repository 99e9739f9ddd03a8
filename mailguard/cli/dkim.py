"""``mailguard dkim``: the keys that sign outgoing mail."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailguard.cli.output import config_option, fail, json_option, print_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailguard.config.schema import Config
    from mailguard.delivery.dkimkey import DkimKey, DkimKeys
    from mailguard.net.resolver import DnsResolver

_KEEP = 7 * 86_400.0  # seconds that a retired key's record must stay: longer than mail waits in any queue
_STATE = {"": "signs", "next": "waits for its record", "old": "retired"}


@click.group()
def dkim() -> None:
    """Keys that sign outgoing mail: make, list, rotate."""


def _open(config: Path | None) -> tuple[Config, DkimKeys]:
    from mailguard.config.schema import find_config, load_config
    from mailguard.delivery.dkimkey import DkimKeys

    loaded = load_config(find_config(config))
    if not loaded.data_dir.is_dir():
        loaded.data_dir.mkdir(mode=0o700, parents=True)
    return loaded, DkimKeys(loaded.data_dir / "dkim")


def _ours(config: Config, domain: str) -> str:
    from mailguard.model.address import AddressError, parse_domain

    try:
        name = parse_domain(domain)
    except AddressError as error:
        raise click.UsageError(str(error)) from None
    known = {*config.directory.domains, config.main.hostname}
    if name not in known:
        raise fail(f"{name} is none of our domains ({', '.join(sorted(known))}); add a `[[domain]]` to accounts.toml")
    return name


@dkim.command()
@click.argument("domain")
@config_option
def add(domain: str, config: Path | None) -> None:
    """Make an RSA and an Ed25519 key for DOMAIN, and print the two records to publish."""
    from mailguard.delivery.dkimkey import DkimKeyError

    loaded, keys = _open(config)
    name = _ours(loaded, domain)
    try:
        made = keys.add(name)
    except DkimKeyError as error:
        raise fail(str(error)) from None
    _publish(made)
    click.echo(f"Mail from {name} is signed from now on; others can check it once the records are published.")
    _reload(loaded)


@dkim.command(name="list")
@click.argument("domain", required=False)
@json_option
@config_option
def list_(domain: str | None, as_json: bool, config: Path | None) -> None:
    """List the keys, with their records."""
    loaded, keys = _open(config)
    rows = [
        {
            "domain": key.domain,
            "selector": key.selector,
            "algorithm": key.algorithm,
            "state": _STATE[key.state.value],
            "since": time.strftime("%Y-%m-%d", time.localtime(key.since)),
            "file": str(key.path),
            "record_name": key.record_name,
            "record": key.record,
        }
        for name in ([_ours(loaded, domain)] if domain else keys.domains())
        for key in keys.keys(name)
    ]
    columns = ("domain", "selector", "algorithm", "state", "since", "file")
    print_rows(columns, rows, as_json=as_json, empty="no keys; `mailguard dkim add DOMAIN` makes them")


@dkim.command()
@click.argument("domain")
@click.option("--now", "at_once", is_flag=True, help="switch over without asking the DNS for the new records")
@config_option
def rotate(domain: str, at_once: bool, config: Path | None) -> None:
    """Change keys in two steps: prints the records of new keys, and once those are published, signs with them."""
    from mailguard.delivery.dkimkey import DkimKeyError
    from mailguard.net.resolver import DnsResolver

    loaded, keys = _open(config)
    name = _ours(loaded, domain)
    try:
        new = keys.prepare(name)
    except DkimKeyError as error:
        raise fail(str(error)) from None
    missing = [] if at_once else _unpublished(new, DnsResolver(loaded.main.dns))
    if missing:
        _publish(missing)
        click.echo(f"Publish these, then run `mailguard dkim rotate {name}` again; the old keys sign until then.")
    else:
        signing = keys.switch(name)
        click.echo(f"Mail from {name} is signed with {', '.join(key.selector for key in signing)} from now on.")
        click.echo("Leave the records of the old keys for a week.")
        _reload(loaded)
    for key in keys.forget(name, older_than=time.time() - _KEEP):
        click.echo(f"The key {key.selector} is deleted; its record {key.record_name} may go, too.")


def _unpublished(keys: Sequence[DkimKey], resolver: DnsResolver) -> list[DkimKey]:
    from mailguard.delivery.dkimcheck import KeyPublication, published

    return [key for key in keys if published(key, resolver)[0] is not KeyPublication.GOOD]


def _publish(keys: Sequence[DkimKey]) -> None:
    from mailguard.protocol.autoconfig.records import Record, zone_line

    for key in keys:
        click.echo(zone_line(Record(key.record_name, "TXT", key.record, "")))


def _reload(config: Config) -> None:
    """Asks a running server to take the new keys in."""
    from mailguard.app.pidfile import signal_server

    if not signal_server(config.data_dir):
        click.echo("(no server is running on this data folder)")
