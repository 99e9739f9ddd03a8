"""``mailguard policy``: what applies, whether it holds what it promises, what another one would change."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import click

from mailguard.cli.installation import config_option, find_installation, json_option
from mailguard.cli.why import local_time
from mailguard.pipeline.decide import limits, overrides_for
from mailguard.pipeline.policy import Check, Effect, Override, Policy
from mailguard.pipeline.replay import Replay, replay, run_tests
from mailguard.state import record


@click.group()
def policy() -> None:
    """Show, test and compare policies."""


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


def effective_rows(loaded: Policy, rcpt: str = "") -> Iterator[tuple[str, str, str]]:
    """What applies, as (what, does, where), for everyone or for one recipient."""
    overrides = overrides_for(loaded, rcpt) if rcpt else ()
    yield "policy mode", loaded.general.mode, loaded.where("policy.mode")
    for check in loaded.checks:
        yield from _check_rows(check, overrides)
    for rule in loaded.rules:
        mode = "" if rule.model.mode == "enforce" else f" ({rule.model.mode})"
        yield f'rule "{rule.model.name}"{mode}', f"{rule.effect.text} when {rule.model.when}", rule.effect.where
    for name, (limit, where) in limits(loaded, overrides).items():
        yield f"score >= {limit:g}", name, where
    for override in reversed(overrides):
        yield from _list_rows(override.model.allow, override.model.deny, "junk", override.where)
    general = loaded.general
    yield from _list_rows(general.allow, (), "", loaded.where("policy.allow"))
    yield from _list_rows((), general.deny, "reject", loaded.where("policy.deny"))


def _check_rows(check: Check, overrides: tuple[Override, ...]) -> Iterator[tuple[str, str, str]]:
    mode, where = str(check.model.mode), check.where
    effects: dict[str, Effect] = dict(check.effects)
    for override in overrides:
        other = override.model.checks.get(check.name)
        if other is not None and other.mode:
            mode, where = other.mode, override.where
        effects |= override.effects.get(check.name, {})
    skip = f", skipped if {check.skip_if.text}" if check.skip_if else ""
    yield f"check {check.name}", f"{mode}{skip}", where
    for word, effect in effects.items():
        yield f"  {check.name} {word}", effect.text, effect.where


def _list_rows(
    allow: tuple[str, ...], deny: tuple[str, ...], action: str, where: str
) -> Iterator[tuple[str, str, str]]:
    for sender in deny:
        yield f"from {sender}", action, where
    for sender in allow:
        yield f"from {sender}", "accept (if vouched for)", where


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

    Nothing is asked of the DNS: the facts that were stored with each verdict are used.
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
    return {"records": result.count, "flips": flips}


def _print(result: Replay) -> None:
    total = sum(map(len, result.flips.values()))
    click.echo(f"{result.count} verdicts decided anew, {total} would have ended differently")
    for sender, found in result.flips.items():
        click.echo(f"\n{sender} ({len(found)})")
        for flip in found[:20]:
            what = flip.record.subject[:50] if flip.record.stage == "message" else f"at stage {flip.record.stage}"
            click.echo(f"  {local_time(flip.record.at)}  {flip.record.id}  {flip.before} -> {flip.after}"
                       f"  by {flip.why}  {what}")  # fmt: skip
        if len(found) > 20:
            click.echo(f"  ... and {len(found) - 20} more")
