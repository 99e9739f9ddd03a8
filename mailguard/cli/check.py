"""``mailguard check``."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mailguard.cli.output import config_option, json_option, set_option


@click.command()
@config_option
@set_option
@json_option
def check(config: Path | None, overrides: tuple[str, ...], as_json: bool) -> int:
    """Check the configuration, the accounts and the policy: every mistake, with file, line and cure."""
    from dataclasses import asdict

    from mailguard.app.plan import make_plan
    from mailguard.config.decode import ConfigError, line
    from mailguard.config.schema import find_config, load_config

    path = find_config(config)
    try:
        plan = make_plan(load_config(path, overrides))
    except ConfigError as error:
        if as_json:
            click.echo(json.dumps([asdict(problem) for problem in error.problems], indent=2))
        else:
            for problem in error.problems:
                click.echo(line(problem), err=True)
        return 2
    if as_json:
        click.echo("[]")
    else:
        people, checks = len(plan.config.directory.accounts), len(plan.policy.checks)
        click.echo(f"{path}: good ({len(plan.config.directory.domains)} domains, {people} accounts, {checks} checks)")
    return 0
