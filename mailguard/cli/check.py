"""``mailguard check``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailguard.cli.output import config_option, json_option, set_option

if TYPE_CHECKING:
    from mailguard.config.schema import Config
    from mailguard.pipeline.source import Problem

_PATIENCE = 3.0  # seconds for all questions to the DNS together


@click.command()
@config_option
@set_option
@json_option
def check(config: Path | None, overrides: tuple[str, ...], as_json: bool) -> int:
    """Check the configuration, the accounts and the policy: every mistake, with file, line and cure.

    A DKIM key that signs mail and is not published is a warning: the exit code stays 0.
    """
    from dataclasses import asdict

    from mailguard.app.plan import make_plan
    from mailguard.config.decode import ConfigError
    from mailguard.config.schema import find_config, load_config

    path = find_config(config)
    try:
        plan = make_plan(load_config(path, overrides))
    except ConfigError as error:
        if as_json:
            click.echo(json.dumps([asdict(problem) for problem in error.problems], indent=2))
        else:
            for problem in error.problems:
                click.echo(problem, err=True)
        return 2
    warnings = _unpublished(plan.config)
    if as_json:
        click.echo(json.dumps([asdict(problem) for problem in warnings], indent=2))
        return 0
    for problem in warnings:
        click.echo(f"warning: {problem}", err=True)
    people, checks = len(plan.config.directory.accounts), len(plan.policy.checks)
    click.echo(f"{path}: good ({len(plan.config.directory.domains)} domains, {people} accounts, {checks} checks)")
    return 0


def _unpublished(config: Config) -> list[Problem]:
    """The keys that sign mail while the DNS holds no such key, or another one: nobody can check these signatures."""
    from mailguard.delivery.dkimkey import DkimKeys
    from mailguard.pipeline.source import Problem

    folder = config.data_dir / "dkim"
    domains = [name for name in DkimKeys(folder).domains() if name in config.directory.domains]
    if not domains:
        return []
    from mailguard.delivery.dkimcheck import wrong_keys
    from mailguard.delivery.dnscheck import BoundResolver
    from mailguard.net.resolver import DnsResolver

    resolver = BoundResolver(DnsResolver(config.main.dns), _PATIENCE)
    return [
        Problem(str(folder / domain), 0, 0, problem, cure)
        for domain, problem, cure in wrong_keys(folder, domains, resolver)
    ]
