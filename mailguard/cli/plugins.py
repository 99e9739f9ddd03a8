"""``mailguard plugins``: which there are, what they find, and a new one to start from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click

import mailguard
from mailguard.cli.installation import Installation, find_installation
from mailguard.cli.output import config_option, json_option, local_time
from mailguard.pipeline.engine import NOTICES
from mailguard.pipeline.registry import CHECKS, Plugin, PluginError, Registry
from mailguard.state.kv import KeyValueStore

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}\Z")


@click.group()
def plugins() -> None:
    """List, show and scaffold filter plugins."""


@plugins.command(name="list")
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """List the plugins that could be named in the policy, and which are in use."""
    installation = find_installation(config)
    off = _switched_off(installation)
    used = {check.model.plugin: check for check in installation.policy.checks}
    rows: list[dict[str, Any]] = []
    for name, origin in installation.registry.names().items():
        check = used.get(name)
        rows.append({"name": name, "in_use": bool(check), "mode": check.model.mode if check else "", "origin": origin,
                     "off": off.get(check.name if check else name)})  # fmt: skip
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['name']:<16} {row['mode'] or 'not in use':<12} {row['origin']}")
        if notice := row["off"]:
            click.echo(f"{'':<16} switched off until {local_time(notice['until'])}: {notice['error']}")


def _switched_off(installation: Installation) -> dict[str, dict[str, Any]]:
    """The checks that some worker has switched off after too many faults."""
    if not installation.data_dir.is_dir():
        return {}
    found = KeyValueStore(installation.database, NOTICES).items("off/")
    return {key.removeprefix("off/"): value for key, value in found}


@plugins.command()
@click.argument("name")
@json_option
@config_option
def show(name: str, as_json: bool, config: Path | None) -> None:
    """Show what a plugin finds, when it runs, and its options."""
    plugin = _load(find_installation(config).registry, name)
    if as_json:
        click.echo(json.dumps(_as_dict(plugin), indent=2, default=str))
        return
    info = plugin.info
    click.echo(f"{info.name}: {info.summary or '(no summary)'}")
    click.echo(f"from {plugin.origin}")
    stages = [hook.removeprefix("check_") for hook in CHECKS if hook in plugin.hooks]
    click.echo(f"checks: {', '.join(stages) or 'nothing'}; hooks: {', '.join(sorted(plugin.hooks))}")
    if info.after:
        click.echo(f"must stand below: {', '.join(info.after)}")
    click.echo("\nwords (default action):")
    for word, action in {**info.words, "error": "accept"}.items():
        meaning = info.explain.get(word, "it failed or took too long" if word == "error" else "")
        click.echo(f"  {word:<14} {action:<12} {meaning}".rstrip())
    click.echo("\noptions (default):" if info.options.model_fields else "\nno options")
    for option, field in info.options.model_fields.items():
        default = "required" if field.is_required() else json.dumps(field.get_default(call_default_factory=True),
                                                                    default=str)  # fmt: skip
        click.echo(f"  {option:<14} {default:<12} {field.description or ''}".rstrip())


def _as_dict(plugin: Plugin) -> dict[str, object]:
    info = plugin.info
    return {
        "name": info.name,
        "summary": info.summary,
        "origin": plugin.origin,
        "hooks": sorted(plugin.hooks),
        "words": dict(info.words),
        "after": info.after,
        "options": info.options.model_json_schema()["properties"] if info.options.model_fields else {},
    }


def _load(registry: Registry, name: str) -> Plugin:
    try:
        return registry.load(name)
    except PluginError as error:
        raise click.ClickException(str(error)) from None


@plugins.command()
@click.argument("name")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), default=None, help="where; default ./NAME")
def new(name: str, folder: Path | None) -> None:
    """Make a new plugin: a folder with a working filter, its test, README and packaging."""
    if not _NAME.match(name):
        raise click.BadParameter("a name is of lower-case letters, digits and _")
    target = folder or Path(name)
    if target.exists():
        raise click.ClickException(f"{target} exists already")
    source = skeleton_folder()
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        if path.suffix in (".py", ".toml", ".md"):
            text = path.read_text("utf-8").replace("skeleton", name).replace("Skeleton", _camel(name))
            (target / path.name.replace("skeleton", name)).write_text(text, "utf-8")
    click.echo(f"made {target}. Next:\n  pip install -e {target} && pytest {target}")
    click.echo(f'then in policy.toml:\n  [[check]]\n  plugin = "{name}"')


def skeleton_folder() -> Path:
    """The skeleton: beside the package's own files, or in a checkout."""
    package = Path(mailguard.__file__).parent
    for folder in (package / "skeleton", package.parent / "plugins" / "skeleton"):
        if folder.is_dir():
            return folder
    raise click.ClickException("the skeleton is missing from this installation")


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))
