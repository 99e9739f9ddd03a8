"""``mailguard policy allow`` and ``deny``: a sender put on a list of policy.toml, every comment kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import tomlkit
from tomlkit.items import AoT

from mailguard.cli.installation import ConfigFailure, find_installation
from mailguard.cli.output import config_option
from mailguard.config.edit import append_table, replace_file
from mailguard.model.address import Address, AddressError
from mailguard.pipeline.compiler import parse_policy
from mailguard.pipeline.source import PolicyError

_OPPOSITE = {"allow": "deny", "deny": "allow"}
_rcpt_option = click.option("--for", "rcpt", default="", help="only for this recipient, or this domain of ours")
_remove_option = click.option("--remove", is_flag=True, help="take it off the list again")


@click.command()
@click.argument("sender")
@_rcpt_option
@_remove_option
@config_option
def allow(sender: str, rcpt: str, remove: bool, config: Path | None) -> None:
    """Let mail of SENDER (an address or a domain) in, where DMARC, DKIM or SPF vouches for it."""
    _change("allow", sender, rcpt, remove, config)


@click.command()
@click.argument("sender")
@_rcpt_option
@_remove_option
@config_option
def deny(sender: str, rcpt: str, remove: bool, config: Path | None) -> None:
    """Refuse mail of SENDER (an address or a domain); with --for it goes to that recipient's Junk."""
    _change("deny", sender, rcpt, remove, config)


def _change(kind: str, sender: str, rcpt: str, remove: bool, config: Path | None) -> None:
    name, owner = _name(sender), _name(rcpt) if rcpt else ""
    installation = find_installation(config)
    path = installation.base / installation.main.policy.file
    document = tomlkit.parse(path.read_text("utf-8") if path.exists() else "")
    table = _table(document, owner)
    taken = _drop(table, kind, name) if remove else _put(table, kind, name)
    moved = not remove and _drop(table, _OPPOSITE[kind], name)
    where = f"{kind} list {f'of {owner}' if owner else 'for everybody'}"
    if not taken and not moved:
        click.echo(f"{name} is {'not' if remove else 'already'} on the {where}")
        return
    text = tomlkit.dumps(document)
    try:
        parse_policy(path.name, text, installation.registry.load, installation.registry.names)
    except PolicyError as error:
        raise ConfigFailure(str(error)) from None
    replace_file(path, text)
    click.echo(f"{name} is {'off' if remove else 'on'} the {where} now ({path.name}); a reload makes it count")


def _name(text: str) -> str:
    """An address or a domain in lower case. Raises BadParameter."""
    try:
        return Address.parse(text).key if "@" in text else Address.parse(f"x@{text}").domain
    except AddressError:
        raise click.BadParameter(f"{text!r} is neither an address nor a domain") from None


def _table(document: tomlkit.TOMLDocument, owner: str) -> Any:
    """``[policy]``, or the [[override]] that is for this recipient alone; made where there is none."""
    if not owner:
        if "policy" not in document:
            document.add("policy", tomlkit.table())
        return document["policy"]
    for _ in range(2):
        found = document.get("override")
        for override in found if isinstance(found, AoT) else ():
            if [str(rcpt).lower() for rcpt in override.get("recipients", ())] == [owner]:
                return override
        append_table(document, "override", {"recipients": [owner]})
    raise AssertionError("an override was just added")


def _put(table: Any, kind: str, name: str) -> bool:
    names = [str(item).lower() for item in table.get(kind, ())]
    if name in names:
        return False
    if kind in table:
        table[kind].append(name)
    else:
        table.add(kind, [name])
    return True


def _drop(table: Any, kind: str, name: str) -> bool:
    names = [str(item).lower() for item in table.get(kind, ())]
    if name not in names:
        return False
    del table[kind][names.index(name)]
    return True
