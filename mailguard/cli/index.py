"""``mailguard index``: the cache over people's mail, compared with the mail or made anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailguard.cli.mail import find_account, load, progress, read_ahead, store_of
from mailguard.cli.output import config_option, fail

if TYPE_CHECKING:
    from mailguard.auth.accounts import Account
    from mailguard.config.schema import Config

accounts_argument = click.argument("accounts", nargs=-1)


@click.group()
def index() -> None:
    """Compare the index of people's mail with the mail, or make it anew."""


@index.command()
@accounts_argument
@config_option
def verify(accounts: tuple[str, ...], config: Path | None) -> None:
    """Compare the index with the files of ACCOUNTS, or of all accounts."""
    from mailguard.store.survey import differences

    loaded = load(config)
    count = 0
    for account in _accounts(loaded, accounts):
        with store_of(loaded, account) as store:
            for text in differences(store):
                count += 1
                click.echo(f"{account}: {text}")
    if count:
        raise fail(f"{count} differences; `mailguard index rebuild` puts the index right")
    click.echo("the index says what the files say")


@index.command()
@accounts_argument
@click.option("--from-nothing", is_flag=True, help="throw the whole index away; clients look at all flags once more")
@config_option
def rebuild(accounts: tuple[str, ...], from_nothing: bool, config: Path | None) -> None:
    """Read all mail of ACCOUNTS, or of all accounts, into the index again. UIDs stay as they are, and so do MODSEQs
    without --from-nothing. The server may go on running."""
    loaded = load(config)
    for account in _accounts(loaded, accounts):
        with store_of(loaded, account) as store, progress() as bar:
            if from_nothing:
                store.forget_index()
            store.forget_descriptions()
            read_ahead(store, bar, f"{account} ")
    click.echo("done", err=True)


def _accounts(loaded: Config, names: tuple[str, ...]) -> Iterator[Account]:
    if names:
        yield from (find_account(loaded, name) for name in names)
    else:
        yield from (a for a in loaded.directory.accounts.values() if (a.maildir / "cur").is_dir())
