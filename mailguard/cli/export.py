"""``mailguard export``: all mail of one account as a Maildir or as mbox files, to go elsewhere with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailguard.cli.mail import account_argument, open_mail, progress
from mailguard.cli.output import config_option, fail

if TYPE_CHECKING:
    from mailguard.store.account import AccountStore


@click.command()
@account_argument
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["maildir", "mbox"]), default="maildir", show_default=True)
@click.option("--mailbox", "only", multiple=True, help="only this mailbox (may be given more than once); mbox only")
@config_option
def export(account: str, folder: Path, form: str, only: tuple[str, ...], config: Path | None) -> None:
    """Copy the mail of ACCOUNT into FOLDER, which must not exist: a Maildir with Dovecot's files (UIDs, keywords,
    subscriptions), or one mbox file for each mailbox, with flags in Status fields."""
    if folder.exists():
        raise fail(f"{folder} exists already")
    if only and form != "mbox":
        raise click.UsageError("--mailbox goes with --format mbox: a Maildir is exported whole")
    with open_mail(config, account) as mail:
        count = _maildir(mail.store, folder) if form == "maildir" else _mbox(mail.store, folder, only)
    click.echo(f"{count} messages: {folder}")


def _maildir(store: AccountStore, folder: Path) -> int:
    from mailguard.store import maildir
    from mailguard.store.backup import freeze

    frozen = store.root / "tmp" / f"export-{folder.name}"
    try:
        counts = freeze(store, frozen)
        shutil.copytree(frozen, folder)  # copies, so that nothing done there touches the mail here
    finally:
        shutil.rmtree(frozen, ignore_errors=True)
    for path in (folder, *folder.glob(".*")):
        maildir.create(path)
        if path != folder:
            (path / "maildirfolder").touch()
    return sum(counts.values())


def _mbox(store: AccountStore, folder: Path, only: tuple[str, ...]) -> int:
    from mailguard.store.mbox import write_message
    from mailguard.store.snapshot import ExpungedError

    names = store.names()
    for name in only:
        if name not in names:
            raise fail(f"there is no mailbox {name}; there are {', '.join(names)}")
    names = list(dict.fromkeys(only)) or names
    folder.mkdir(mode=0o700, parents=True)
    count = 0
    with progress() as bar:
        for name in names:
            mailbox = store.mailbox(name)
            task = bar.add_task(name, total=mailbox.status().messages)
            with (folder / f"{name.replace('/', '.')}.mbox").open("xb") as file:
                for uid, flags, date in mailbox.rows(None, ("uid", "flags", "date")):
                    try:
                        write_message(file, mailbox.raw(uid), flags, date)
                    except ExpungedError:
                        continue
                    count += 1
                    bar.advance(task)
    return count
