"""``mailguard backup`` and ``mailguard restore``: one account in one file, read again before anybody relies on it."""

from __future__ import annotations

from pathlib import Path

import click

from mailguard.cli.mail import account_argument, find_account, load, open_mail, progress, store_of
from mailguard.cli.output import config_option, fail

file_argument = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))


@click.command()
@account_argument
@file_argument
@config_option
def backup(account: str, file: Path, config: Path | None) -> None:
    """Write all mail of ACCOUNT into FILE (.tar, or .tar.gz), each mailbox as it is at one moment, while the server
    goes on; then read it back and compare every digest."""
    from mailguard.store.backup import verify_backup, write_backup

    with open_mail(config, account) as mail, progress() as bar:
        total = sum(mail.store.mailbox(name).status().messages for name in mail.store.names())
        task = bar.add_task("writing", total=total)
        content = write_backup(mail.store, mail.account.key, file, lambda n: bar.advance(task, n))
    count = verify_backup(file)
    if count != sum(content.mailboxes.values()):
        raise fail(f"{file} holds {count} messages instead of {sum(content.mailboxes.values())}")
    click.echo(f"{count} messages in {len(content.mailboxes)} mailboxes, verified: {file}")


@click.command()
@file_argument
@account_argument
@click.option("--mailbox", default="", help="only this mailbox, into --into")
@click.option("--into", default="", help="the mailbox to put it into; default: Restored/NAME")
@click.option("--check", is_flag=True, help="only read the file and compare every digest")
@config_option
def restore(file: Path, account: str, mailbox: str, into: str, check: bool, config: Path | None) -> None:
    """Restore ACCOUNT, which must hold no mail, from FILE; or with --mailbox one mailbox into a new one. UIDs come
    back as they were, so mail programs go on; none that was given since is given again."""
    from mailguard.store.backup import BackupError, restore_account, verify_backup

    try:
        count = verify_backup(file)
        if check:
            click.echo(f"{file} is sound: {count} messages")
        elif mailbox:
            with open_mail(config, account) as mail:
                click.echo(f"{_one(file, mail.store, mailbox, into or f'Restored/{mailbox}')} messages")
        else:
            loaded = load(config)
            owner = find_account(loaded, account)
            _make_way(owner.maildir)
            count = restore_account(file, owner.maildir)
            with store_of(loaded, owner) as store:
                store.forget_index()
                there = sum(store.mailbox(name).status().messages for name in store.names())
            if there != count:
                raise fail(f"{count} messages were restored, {there} are there")
            click.echo(f"{count} messages, verified")
    except BackupError as error:
        raise fail(str(error)) from None


def _make_way(maildir: Path) -> None:
    if not maildir.exists():
        maildir.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return
    if any(maildir.glob("cur/*")) or any(maildir.glob("new/*")) or any(maildir.glob(".*/cur/*")):
        raise fail(f"{maildir} holds mail: restore one mailbox after the other with --mailbox, or move it away")
    maildir.rename(maildir.with_name(f".{maildir.name}.before-restore"))


def _one(file: Path, store: object, mailbox: str, into: str) -> int:
    from mailguard.store import maildir
    from mailguard.store.account import AccountStore
    from mailguard.store.backup import keywords_of, messages_of
    from mailguard.store.content import with_crlf
    from mailguard.store.flag import flags_of
    from mailguard.store.folder import MailboxExistsError
    from mailguard.store.snapshot import NewMessage

    assert isinstance(store, AccountStore)
    folder = store.folder_of(mailbox)
    keywords = keywords_of(file, folder)
    try:
        store.create(into)
    except MailboxExistsError:
        raise fail(f"there is a mailbox {into} already; name another with --into") from None
    target, count = store.mailbox(into), 0
    for name, data, date in messages_of(file, folder):
        flags = flags_of(maildir.split_name(name)[1], keywords)
        target.append([NewMessage([with_crlf(data)], tuple(flags.split()), date)])
        count += 1
    return count
