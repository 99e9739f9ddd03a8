"""``mailguard adopt``: a Maildir that Dovecot or another program wrote becomes an account's mail, where it lies."""

from __future__ import annotations

import os
from pathlib import Path

import click

from mailguard.cli.mail import find_account, load, progress, read_ahead, store_of
from mailguard.cli.output import config_option, fail, json_option, print_rows


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("account", required=False)
@click.option("--check", is_flag=True, help="only look and report")
@click.option("--move", is_flag=True, help="move the folder into the data folder instead of linking to it")
@json_option
@config_option
def adopt(path: Path, account: str | None, check: bool, move: bool, as_json: bool, config: Path | None) -> None:
    """Take over the Maildir PATH as the mail of ACCOUNT: UIDs, flags, keywords, dates and subscriptions stay as they
    are, so no mail program loads anything again. Stop the old server first. The mail can be used after seconds; what
    is read after that makes lists and searches quick, and may be stopped. Without ACCOUNT, or with --check, nothing is
    changed."""
    from mailguard.store.folder import FolderTree
    from mailguard.store.survey import survey

    path = path.resolve()
    loaded = load(config) if account and not check else None
    found = survey(path)
    rows = [
        {"folder": (f.name and FolderTree.name_in(f.name)) or f.name or "INBOX",
         "messages": f.messages, "uid_validity": f.uid_validity or None,
         "next_uid": f.next_uid or None, "keywords": f.keywords}
        for f in found.folders
    ]  # fmt: skip
    print_rows(("folder", "messages", "uid_validity", "next_uid", "keywords"), rows, as_json=as_json)
    for remark in found.remarks:
        click.echo(f"note: {remark}", err=True)
    if found.faults:
        raise fail("; ".join(found.faults))
    if loaded is None or account is None:
        click.echo("nothing stands in the way", err=True)
        return
    owner = find_account(loaded, account)
    placed = _place(path, owner.maildir, move=move)
    with store_of(loaded, owner) as store:
        if placed:
            store.forget_index()  # it is of the Maildir that was there before
        names = store.names()
        count = sum(store.mailbox(name).status().messages for name in names)
        expected = sum(folder.messages for folder in found.folders)
        if count < expected:
            raise fail(f"{expected} files were there, {count} messages are: run `mailguard index verify {owner}`")
        click.echo(f"adopted {count} messages in {len(names)} mailboxes for {owner}: ready to be used", err=True)
        os.nice(10)  # the server goes first
        with progress() as bar:
            read_ahead(store, bar)


def _place(path: Path, maildir: Path, *, move: bool) -> bool:
    """Whether it was not in its place yet. Raises ClickException."""
    if maildir.resolve() == path:
        return False
    if maildir.is_symlink() or (maildir.exists() and any(_messages(maildir))):
        raise fail(f"{maildir} holds mail already; import {path} instead, with `mailguard import maildir`")
    if maildir.exists():
        maildir.rename(maildir.with_name(f".{maildir.name}.before-adopt"))
    maildir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if move:
        path.rename(maildir)
    else:
        maildir.symlink_to(path, target_is_directory=True)
    return True


def _messages(maildir: Path) -> list[Path]:
    return [file for folder in ("cur", "new", ".*/cur", ".*/new") for file in maildir.glob(f"{folder}/*")]
