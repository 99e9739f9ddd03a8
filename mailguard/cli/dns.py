"""``mailguard dns``: which records to publish, and whether they are there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from mailguard.cli.installation import ConfigFailure, config_option, json_option
from mailguard.config.decode import ConfigError
from mailguard.config.schema import Config, find_config, load_config
from mailguard.delivery.dnscheck import Checked, State, check
from mailguard.net.resolver import DnsResolver, DnsTemporaryError, addresses
from mailguard.protocol.autoconfig.records import Plan, Record, nsupdate_lines, records, zone_line
from mailguard.server.web_settings import mta_sts_id, providers

_COLOUR = {State.OK: "green", State.MISSING: "yellow", State.DIFFERENT: "yellow", State.DANGEROUS: "red bold",
           State.UNKNOWN: "magenta"}  # fmt: skip


@click.group()
def dns() -> None:
    """DNS records: what to publish, and what is wrong."""


def _load(config: Path | None) -> Config:
    try:
        return load_config(find_config(config))
    except ConfigError as error:
        raise ConfigFailure(str(error)) from None


def _plans(config: Config, domain: str | None, given: tuple[str, ...], resolver: DnsResolver) -> list[Plan]:
    known = providers(config.main.hostname, config.main.listener, config.directory, config.main.web)
    if domain is not None and domain not in known:
        raise click.ClickException(f"{domain} is not among our domains: {', '.join(known) or 'there are none'}")
    public = given or _published(resolver, config.main.hostname)
    web = config.main.web
    return [
        Plan(
            known[name],
            addresses=public,
            sts_id="" if web.mta_sts == "none" else mta_sts_id(web, config.main.hostname),
            pacc=web.pacc,
        )
        for name in ([domain] if domain else known)
    ]


def _published(resolver: DnsResolver, hostname: str) -> tuple[str, ...]:
    try:
        return tuple(addresses(resolver, hostname))
    except DnsTemporaryError:
        return ()


address_option = click.option(
    "--address", "given", multiple=True, help="our public address; default: what the host name resolves to"
)


@dns.command()
@config_option
@address_option
@click.argument("domain", required=False)
@click.option("--format", "style", type=click.Choice(["zone", "table", "json", "nsupdate"]), default="zone")
def show(config: Path | None, given: tuple[str, ...], domain: str | None, style: str) -> None:
    """Print every record that DOMAIN (or all our domains) should have."""
    loaded = _load(config)
    wanted: dict[Record, None] = {}
    for plan in _plans(loaded, domain, given, DnsResolver(loaded.main.dns)):
        wanted |= dict.fromkeys(records(plan))
    if style == "json":
        click.echo(json.dumps([_as_dict(record) for record in wanted], indent=1))
    elif style == "nsupdate":
        click.echo("\n".join(nsupdate_lines(list(wanted))))
    elif style == "table":
        _print([(r.name, r.type, r.data, r.why + (" (optional)" if r.optional else "")) for r in wanted])
    else:
        for record in wanted:
            click.echo(f"{zone_line(record)}   ; {record.why}")


@dns.command(name="check")
@config_option
@json_option
@address_option
@click.argument("domain", required=False)
def check_command(config: Path | None, as_json: bool, given: tuple[str, ...], domain: str | None) -> None:
    """Ask the DNS for every record and say what is wrong. Exit code 1 if mail suffers from it."""
    loaded = _load(config)
    resolver = DnsResolver(loaded.main.dns)
    wanted: dict[Record, None] = {}
    for plan in _plans(loaded, domain, given, resolver):
        wanted |= dict.fromkeys(records(plan))
    found = check(resolver, list(wanted))
    if as_json:
        click.echo(json.dumps([_finding(result) for result in found], indent=1))
    else:
        _print([(f"[{_COLOUR[c.state]}]{c.state.value}[/]", f"{c.record.name} {c.record.type}", c.cure) for c in found])
    if any(result.failed for result in found):
        sys.exit(1)


def _as_dict(record: Record) -> dict[str, object]:
    return {"name": record.name, "type": record.type, "data": record.data, "why": record.why,
            "optional": record.optional}  # fmt: skip


def _finding(checked: Checked) -> dict[str, object]:
    more = {"state": checked.state.value, "found": list(checked.found), "cure": checked.cure}
    return {**_as_dict(checked.record), **more}


def _print(rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in rows[0] if rows else ():
        table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
