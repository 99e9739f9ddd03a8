"""``mailguard policy``: what applies, whether it holds what it promises, what another one would change."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from mailguard.cli.installation import find_installation
from mailguard.cli.lists import allow, deny
from mailguard.cli.output import config_option, json_option
from mailguard.cli.why import local_time
from mailguard.pipeline.effective import effective as effective_rows
from mailguard.pipeline.replay import Replay, replay, run_tests
from mailguard.state import record


@click.group()
def policy() -> None:
    """Show, test, compare and change policies."""


policy.add_command(allow)
policy.add_command(deny)


@policy.command()
@click.option("--effective", is_flag=True, help="with the plugins' defaults and the overrides: all that applies")
@click.option("--for", "rcpt", default="", help="for this recipient")
@json_option
@config_option
def show(effective: bool, rcpt: str, as_json: bool, config: Path | None) -> None:
    """Print what applies, and which line says so."""
    loaded = find_installation(config).policy
    rows = list(effective_rows(loaded, rcpt)) if effective or rcpt or as_json else []
    if as_json:
        click.echo(json.dumps([{"what": what, "does": does, "where": where} for what, does, where in rows], indent=2))
    elif rows:
        widths = [max(len(row[n]) for row in rows) for n in (0, 1)]
        for what, does, where in rows:
            click.echo(f"{what:<{widths[0]}}  {does:<{widths[1]}}  {where}".rstrip())
    else:
        click.echo(loaded.text or "# there is no policy file: everything is accepted", nl=not loaded.text)


@policy.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=False)
@config_option
def test(file: Path | None, config: Path | None) -> None:
    """Run the [[test]]s of the policy, or of FILE. Exits with 1 if one fails."""
    installation = find_installation(config)
    loaded = installation.other_policy(file) if file else installation.policy
    results = run_tests(loaded)
    for result in results:
        click.echo(f"{'FAIL' if result.wrong else 'ok  '}  {result.name}")
        if result.wrong:
            click.echo(f"      {result.where}: {result.wrong}")
    failed = sum(bool(result.wrong) for result in results)
    click.echo(f"{len(results)} tests, {failed} failed")
    if failed:
        raise SystemExit(1)


@policy.command()
@click.argument("new", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--days", default=7.0, show_default=True, help="how many days back")
@json_option
@config_option
def diff(new: Path, days: float, as_json: bool, config: Path | None) -> None:
    """Decide the mail of the last days anew with the policy NEW, and list what would have ended differently.

    Nothing is asked of the DNS: the facts that were stored with each verdict are used. A check that was not there
    then found nothing.
    """
    installation = find_installation(config)
    records = record.since(installation.database, time.time() - days * 86_400)
    result = replay(installation.other_policy(new), records)
    if as_json:
        click.echo(json.dumps(_as_json(result), indent=2))
    else:
        _print(result)


def _as_json(result: Replay) -> dict[str, object]:
    flips = [
        {"id": f.record.id, "at": f.record.at, "sender": sender, "rcpt": f.record.rcpt, "subject": f.record.subject,
         "stage": f.record.stage, "before": f.before, "after": f.after, "why": f.why}
        for sender, found in result.flips.items() for f in found
    ]  # fmt: skip
    return {"records": result.count, "flips": flips, "unknown_checks": result.unknown}


def _print(result: Replay) -> None:
    total = sum(map(len, result.flips.values()))
    click.echo(f"{result.count} verdicts decided anew, {total} would have ended differently")
    if result.unknown:
        click.echo(f"not known of that time, counted as nothing found: {', '.join(result.unknown)}")
    for sender, found in result.flips.items():
        click.echo(f"\n{sender} ({len(found)})")
        for flip in found[:20]:
            what = flip.record.subject[:50] if flip.record.stage == "message" else f"at stage {flip.record.stage}"
            click.echo(f"  {local_time(flip.record.at)}  {flip.record.id}  {flip.before} -> {flip.after}"
                       f"  by {flip.why}  {what}")  # fmt: skip
        if len(found) > 20:
            click.echo(f"  ... and {len(found) - 20} more")
