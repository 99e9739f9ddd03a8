"""``mailguard dns``: which records to publish, and whether they are there."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailguard.cli.output import config_option, fail, json_option

if TYPE_CHECKING:
    from mailguard.config.schema import Config
    from mailguard.delivery.dnscheck import Checked
    from mailguard.protocol.autoconfig.records import Record

_COLOUR = {"ok": "green", "missing": "yellow", "different": "yellow", "dangerous": "bold red", "unknown": "magenta"}

address_option = click.option(
    "--address", "given", multiple=True, help="our public address; default: `dns_check.addresses`, or the host name's"
)


@click.group()
def dns() -> None:
    """DNS records: what to publish, and what is wrong."""


def _load(config: Path | None, domain: str | None, given: tuple[str, ...]) -> tuple[Config, list[str]]:
    import ipaddress

    from mailguard.app.publication import hosted
    from mailguard.config.schema import find_config, load_config

    loaded = load_config(find_config(config))
    known = list(hosted(loaded))
    if domain is not None and domain not in known:
        raise fail(f"{domain} is not among our domains: {', '.join(known) or 'there are none'}")
    for text in given:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise click.UsageError(f"{text} is not an IP address") from None
    return loaded, [domain] if domain else known


@dns.command()
@config_option
@address_option
@click.argument("domain", required=False)
@click.option(
    "--format", "style", type=click.Choice(["zone", "table", "json", "nsupdate"]), default="zone", help="how to print"
)
@click.option("--json", "as_json", is_flag=True, help="the same as --format json")
def show(config: Path | None, given: tuple[str, ...], domain: str | None, style: str, as_json: bool) -> None:
    """Print every record that DOMAIN (or each of our domains) should have."""
    from mailguard.app.publication import plans, public_addresses
    from mailguard.delivery.dnscheck import BoundResolver
    from mailguard.net.resolver import DnsResolver
    from mailguard.protocol.autoconfig.records import nsupdate_lines, records, zone_line

    loaded, names = _load(config, domain, given)
    public = public_addresses(loaded, BoundResolver(DnsResolver(loaded.main.dns), 5), given)
    if not public:
        click.echo(f"; {loaded.main.hostname} has no address yet: --address tells what it will be", err=True)
    wanted = list(dict.fromkeys(record for plan in plans(loaded, public, names) for record in records(plan)))
    if as_json or style == "json":
        click.echo(json.dumps([_as_dict(record) for record in wanted], indent=1))
    elif style == "nsupdate":
        click.echo("\n".join(nsupdate_lines(wanted, names)))
    elif style == "table":
        _print([("", f"{r.name} {r.type}", r.data, r.why + (" (optional)" if r.optional else "")) for r in wanted])
    else:
        for record in wanted:
            click.echo(f"{zone_line(record)}   ; {record.why}")


@dns.command(name="check")
@config_option
@json_option
@address_option
@click.option("--all", "everything", is_flag=True, help="show also what is well")
@click.argument("domain", required=False)
def check_command(
    config: Path | None, as_json: bool, given: tuple[str, ...], everything: bool, domain: str | None
) -> None:
    """Ask the DNS about every record, and whether it all fits together. Exit code 1 if mail suffers from something."""
    from mailguard.app.publication import look

    loaded, names = _load(config, domain, given)
    found = look(loaded, names, given)
    if as_json:
        click.echo(json.dumps([as_finding(result) for result in found], indent=1))
    else:
        _tell(found, everything)
    if any(result.failed for result in found):
        sys.exit(1)


def _tell(found: list[Checked], everything: bool) -> None:
    shown = [c for c in found if everything or c.state.value != "ok"]
    shown.sort(key=lambda c: not c.failed)
    _print([(c.state.value, c.subject, c.cure or ", ".join(c.found)) for c in shown])
    bad, hints = sum(c.failed for c in found), sum(not c.failed and c.state.value != "ok" for c in found)
    good = len(found) - bad - hints
    click.echo(f"{len(found)} looked at: {good} well, {hints} could be better, {bad} to mend")


def as_finding(checked: Checked) -> dict[str, object]:
    """One result as JSON: ``state`` is ``ok``, ``missing``, ``different``, ``dangerous`` or ``unknown``."""
    return {
        "subject": checked.subject,
        "state": checked.state.value,
        "failed": checked.failed,
        "optional": checked.optional,
        "found": list(checked.found),
        "cure": checked.cure,
        "record": _as_dict(checked.record) if checked.record else None,
    }


def _as_dict(record: Record) -> dict[str, object]:
    return {"name": record.name, "type": record.type, "data": record.data, "why": record.why,
            "optional": record.optional}  # fmt: skip


def _print(rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    for at in range(len(rows[0]) if rows else 0):
        table.add_column(overflow="fold", no_wrap=at == 0)
    for row in rows:
        table.add_row(Text(row[0], _COLOUR.get(row[0], "")), *(Text(cell) for cell in row[1:]))
    Console().print(table)
