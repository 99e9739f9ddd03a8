"""``mailguard user``: accounts in accounts.toml, passwords in the state database."""

from __future__ import annotations

import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailguard.cli.output import config_option, fail, json_option, print_rows

if TYPE_CHECKING:
    from mailguard.auth.password import Passwords
    from mailguard.config.schema import Config

_LETTERS = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"

password_option = click.option("--password-stdin", is_flag=True, help="read the password from standard input, one line")
generate_option = click.option("--generate", is_flag=True, help="make a password and print it")


@click.group()
def user() -> None:
    """Add and list accounts, change passwords."""


@user.command()
@click.argument("address")
@click.option("--name", default="", help="the person's name")
@click.option("--quota", default="", help="storage, such as 5G")
@password_option
@generate_option
@config_option
def add(address: str, name: str, quota: str, password_stdin: bool, generate: bool, config: Path | None) -> None:
    """Add an account to accounts.toml and set its password. A running server takes it in at once."""
    from mailguard.config.edit import append_table, edit_file
    from mailguard.config.schema import find_config, load_accounts, load_config
    from mailguard.model.address import Address, AddressError
    from mailguard.model.octets import parse_octets

    loaded = load_config(find_config(config))
    try:
        parsed = Address.parse(address)
        parse_octets(quota or 0)
    except (AddressError, ValueError) as error:
        raise click.UsageError(str(error)) from None
    domain = loaded.directory.domains.get(parsed.domain)
    if domain is None:
        known = ", ".join(sorted(loaded.directory.domains)) or "none"
        raise fail(f"{parsed.domain} is none of our domains ({known}); add a `[[domain]]` to {loaded.accounts_path}")
    if loaded.directory.owner(parsed) is not None:
        raise fail(f"there is an account or alias {parsed} already")
    password = _password(password_stdin, generate)
    values: dict[str, object] = {"address": str(parsed)}
    values |= {key: value for key, value in (("name", name), ("quota", quota)) if value}
    _store(loaded, parsed.key, password)
    edit_file(loaded.accounts_path, lambda document: append_table(document, "account", values))
    load_accounts(loaded.accounts_path, loaded.data_dir)
    _told(f"added {parsed}", password if generate else "")
    _reload(loaded)


@user.command()
@click.argument("address")
@password_option
@generate_option
@config_option
def passwd(address: str, password_stdin: bool, generate: bool, config: Path | None) -> None:
    """Change an account's password; it holds at once."""
    from mailguard.config.schema import find_config, load_config

    loaded = load_config(find_config(config))
    account = loaded.directory.account(address)
    if account is None:
        raise fail(f"there is no account {address} in {loaded.accounts_path}")
    password = _password(password_stdin, generate)
    _store(loaded, account.key, password)
    _told(f"changed the password of {account}", password if generate else "")


@user.command(name="list")
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """List the accounts."""
    from mailguard.config.schema import find_config, load_config

    loaded = load_config(find_config(config))
    known = _passwords(loaded).known() if (loaded.data_dir / "state.db").exists() or loaded.main.state.url else set()
    rows = [
        {
            "address": str(account),
            "name": account.name,
            "kind": "shared" if account.shared else "account",
            "password": account.key in known,
            "disabled": account.disabled,
            "quota": account.quota or None,
            "mailbox": str(account.maildir),
        }
        for account in loaded.directory.accounts.values()
    ]
    print_rows(("address", "name", "kind", "password", "disabled", "quota"), rows, as_json=as_json, empty="no accounts")


def _password(from_stdin: bool, generate: bool) -> str:
    if generate:
        return "".join(secrets.choice(_LETTERS) for _ in range(16))
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise click.UsageError("give the password with --password-stdin, or make one with --generate")
    answer: str = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    return answer


def _passwords(config: Config) -> Passwords:
    from mailguard.auth.password import Passwords
    from mailguard.cli.installation import open_database

    config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Passwords(open_database(config.main.state, config.data_dir))


def _store(config: Config, account: str, password: str) -> None:
    from mailguard.auth.password import WeakPasswordError

    try:
        _passwords(config).store(account, password)
    except WeakPasswordError as error:
        raise fail(str(error)) from None


def _told(text: str, password: str) -> None:
    click.echo(text)
    if password:
        click.echo(f"password: {password}")


def _reload(config: Config) -> None:
    """Asks a running server to take the change in."""
    from mailguard.app.pidfile import signal_server

    if not signal_server(config.data_dir):
        click.echo("(no server is running on this data folder)")
