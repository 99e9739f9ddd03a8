"""``mailguard undelete``: expunged mail comes back while it is kept."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import click

from mailguard.cli.mail import account_argument, open_mail
from mailguard.cli.output import config_option, fail, json_option, local_time, print_rows


@click.command()
@account_argument
@click.option("--mailbox", default="", help="only what was in this mailbox")
@click.option("--since", default="", help="only what went in the last time, such as 2h or 3d")
@click.option("--subject", default="", help="only messages with this in their subject")
@click.option("--list", "only_list", is_flag=True, help="show what could come back")
@json_option
@config_option
def undelete(
    account: str, mailbox: str, since: str, subject: str, only_list: bool, as_json: bool, config: Path | None
) -> None:
    """Bring expunged messages of ACCOUNT back into their mailboxes."""
    from mailguard.model.duration import parse_duration
    from mailguard.protocol.imap.describe import describe
    from mailguard.protocol.imap.sort import fold

    try:
        age = parse_duration(since) if since else timedelta.max
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    with open_mail(config, account) as mail:
        store = mail.store
        if store.grave is None:
            raise fail("removed mail is not kept: store.expunge_grace is 0")
        now = time.time()
        rows, found = [], []
        for each in sorted(store.grave.buried(), key=lambda each: each.at):
            name = store.mailbox_of(each.folder)
            described = describe(each.path.read_bytes())
            if (mailbox and name != mailbox) or now - each.at > age.total_seconds():
                continue
            if subject and fold(subject) not in (described.subject or ""):
                continue
            found.append(each)
            rows.append({"removed": local_time(each.at), "mailbox": name, "from": described.from_,
                         "subject": described.subject})  # fmt: skip
        if only_list:
            print_rows(("removed", "mailbox", "from", "subject"), rows, as_json=as_json, empty="nothing can come back")
            return
        click.echo(f"{store.undelete(found)} messages came back")
