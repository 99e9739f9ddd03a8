"""``mailguard import``: mail from mbox files, Maildirs and other servers (IMAP); may be stopped and resumed."""

from __future__ import annotations

import getpass
import hashlib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailguard.cli.mail import Mail, account_argument, open_mail, progress
from mailguard.cli.output import config_option, fail, print_rows

if TYPE_CHECKING:
    from mailguard.model.foreign import Foreign
    from mailguard.store.ledger import Ledger

map_option = click.option("--map", "mapping", multiple=True, metavar="OLD=NEW", help="the new name of a folder")


@click.group(name="import")
def import_() -> None:
    """Copy mail from elsewhere into an account. Start the same command again to go on, or to fetch what is new."""


@contextmanager
def _ledger(mail: Mail, source: str) -> Iterator[Ledger]:
    from mailguard.store.ledger import Ledger

    name = hashlib.sha256(f"{mail.account.key}\n{source}".encode()).hexdigest()[:24]
    ledger = Ledger(mail.config.data_dir / "import" / f"{name}.txt")
    try:
        yield ledger
    except KeyboardInterrupt:
        raise fail(f"stopped: {len(ledger.done)} messages are here, start the same command again to go on") from None
    finally:
        ledger.close()


def _copy(
    mail: Mail, ledger: Ledger, name: str, messages: Iterable[Foreign], total: int, old: str
) -> dict[str, object]:
    """Copies one folder; the row that is shown for it."""
    from mailguard.store.quota import OverQuotaError

    before = len(ledger.done)
    with progress() as bar:
        task = bar.add_task(name, total=total)
        try:
            ledger.add(mail.store, name, messages, lambda: bar.advance(task))
        except OverQuotaError as error:
            raise fail(f"{error}; or give it a larger quota and go on with the same command") from None
    return {"folder": old, "mailbox": name, "there": total, "copied": len(ledger.done) - before}


def _mapped(mapping: tuple[str, ...]) -> dict[str, str]:
    pairs = dict(text.partition("=")[::2] for text in mapping)
    if not all(pairs.values()):
        raise click.UsageError("--map takes OLD=NEW")
    return pairs


def _finish(rows: list[dict[str, object]], missing: int) -> None:
    print_rows(("folder", "mailbox", "there", "copied"), rows, as_json=False, empty="nothing to copy")
    if missing:
        raise fail(f"{missing} messages did not come over; start the same command again")


@import_.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@account_argument
@click.option("--mailbox", default="INBOX", show_default=True, help="the mailbox to put it into")
@config_option
def mbox(file: Path, account: str, mailbox: str, config: Path | None) -> None:
    """Copy the mbox FILE into a mailbox of ACCOUNT. Flags in Status, X-Status and X-Keywords come along, and those of
    Thunderbird's local folders."""
    from mailguard.model.foreign import Foreign
    from mailguard.store.mbox import MboxError, read_messages

    with open_mail(config, account) as mail, _ledger(mail, str(file.resolve())) as ledger, file.open("rb") as source:
        try:
            total = sum(1 for _ in read_messages(source))
        except MboxError as error:
            raise fail(f"{file} is no mbox: {error}") from None
        source.seek(0)
        fresh = (
            Foreign(str(m.offset), m.raw, m.flags, m.date)
            for m in read_messages(source)
            if str(m.offset) not in ledger.done
        )
        row = _copy(mail, ledger, mailbox, fresh, total, file.name)
        _finish([row], total - len(ledger.done))


@import_.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@account_argument
@map_option
@config_option
def maildir(folder: Path, account: str, mapping: tuple[str, ...], config: Path | None) -> None:
    """Copy the Maildir FOLDER, and the Maildir++ folders in it, into ACCOUNT. To take it over as it stands, with its
    UIDs, use `mailguard adopt`."""
    from mailguard.store.maildirsource import maildir_folders, maildir_messages

    names = _mapped(mapping)
    rows, missing = [], 0
    with open_mail(config, account) as mail, _ledger(mail, str(folder.resolve())) as ledger:
        for name, path in maildir_folders(folder):
            messages, ids = maildir_messages(path, name, ledger.done)
            rows.append(_copy(mail, ledger, names.get(name, name), messages, len(ids), name))
            missing += len(ids - ledger.done)
        _finish(rows, missing)


@import_.command()
@click.argument("host")
@click.argument("user")
@account_argument
@click.option("--port", type=int, default=0, help="default: 993, or 143 with --starttls or --plain")
@click.option("--starttls", is_flag=True, help="begin in clear, then turn to TLS")
@click.option("--plain", is_flag=True, help="no TLS at all: only for servers on the same machine")
@click.option("--insecure", is_flag=True, help="do not check the server's certificate")
@click.option("--password-stdin", is_flag=True, help="read the password from standard input, one line")
@click.option("--folder", "only", multiple=True, help="only this folder (may be given more than once)")
@map_option
@config_option
def imap(
    host: str,
    user: str,
    account: str,
    port: int,
    starttls: bool,
    plain: bool,
    insecure: bool,
    password_stdin: bool,
    only: tuple[str, ...],
    mapping: tuple[str, ...],
    config: Path | None,
) -> None:
    """Copy all folders of USER on the IMAP server HOST into ACCOUNT, with flags and dates."""
    from mailguard.net.imapsource import ImapSource, SourceError

    names = _mapped(mapping)
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else getpass.getpass(f"password of {user}: ")
    tls = "none" if plain else "starttls" if starttls else "tls"
    rows, missing = [], 0
    try:
        with (
            open_mail(config, account) as mail,
            _ledger(mail, f"imap://{user}@{host}:{port}") as ledger,
            ImapSource(host, port, tls=tls, check=not insecure) as source,
        ):
            source.login(user, password)
            folders = dict(source.folders())
            for name in only:
                if name not in folders:
                    raise fail(f"{user} has no folder {name} on {host}; there are {', '.join(folders)}")
            for name, target in folders.items():
                if only and name not in only:
                    continue
                messages, ids = source.messages(name, ledger.done)
                rows.append(_copy(mail, ledger, names.get(name, target), messages, len(ids), name))
                missing += len(ids - ledger.done)
    except SourceError as error:
        raise fail(f"{host}: {error}") from None
    _finish(rows, missing)
