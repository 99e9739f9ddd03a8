"""What commands on people's mail share: the account, its store, and the right user to touch its files."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailguard.cli.output import fail

if TYPE_CHECKING:
    from rich.progress import Progress

    from mailguard.auth.accounts import Account
    from mailguard.config.schema import Config
    from mailguard.store.account import AccountStore

_AT_ONCE = 200  # messages, between which the server has its turn
account_argument = click.argument("account")


@dataclass(frozen=True, slots=True)
class Mail:
    """An installation and one account of it."""

    config: Config
    account: Account
    store: AccountStore


def load(config: Path | None) -> Config:
    """The configuration; a command of root goes on as the server's user, to whom the mail belongs."""
    from mailguard.config.schema import find_config, load_config

    loaded = load_config(find_config(config))
    if os.geteuid() == 0 and loaded.main.user:
        user = pwd.getpwnam(loaded.main.user)
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
    return loaded


def find_account(loaded: Config, address: str) -> Account:
    """The account or shared mailbox of this address."""
    from mailguard.model.address import Address, AddressError

    try:
        key = loaded.directory.owner(Address.parse(address))
    except AddressError as error:
        raise click.UsageError(str(error)) from None
    account = loaded.directory.accounts.get(key or "")
    if account is None:
        raise fail(f"there is no account {address} in {loaded.accounts_path}")
    return account


@contextmanager
def open_mail(config: Path | None, address: str) -> Iterator[Mail]:
    """The account's mail; its index is closed at the end."""
    loaded = load(config)
    account = find_account(loaded, address)
    with store_of(loaded, account) as store:
        yield Mail(loaded, account, store)


@contextmanager
def store_of(loaded: Config, account: Account) -> Iterator[AccountStore]:
    """The mail of an account of a configuration that was loaded already."""
    from mailguard.app.mail import opener
    from mailguard.store.mailstore import MailStore

    stores = MailStore(loaded.data_dir / "index", loaded.main.hostname, Notes(), loaded.main.store)
    store = opener(stores, loaded.directory)(account)
    try:
        yield store
    finally:
        store.close()


class Notes:
    """A log on standard error: what the store repairs while a command runs."""

    def warning(self, text: str, **facts: object) -> None:
        """One line."""
        told = " ".join(f"{name}={value}" for name, value in facts.items())
        click.echo(f"note: {text} ({told})" if told else f"note: {text}", err=True)

    info = error = warning


def read_ahead(store: AccountStore, bar: Progress, title: str = "") -> None:
    """Reads all mail that the index does not know well enough yet. May be stopped, and started again, at any time."""
    for name in store.names():
        mailbox = store.mailbox(name)
        total = mailbox.status().messages
        for what, work in (("index", mailbox.describe_some), ("text", mailbox.keep_some)):
            if what == "index" or store.keeps_text:
                task = bar.add_task(f"{title}{name}, {what}", total=total)
                while done := work(_AT_ONCE):
                    bar.advance(task, done)
                bar.update(task, completed=total)


def progress() -> Progress:
    """A bar on standard error, where it is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)
