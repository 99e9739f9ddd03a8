"""``mailguard quarantine``: what a verdict held, and what becomes of it."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import click

from mailguard.cli.installation import Installation, find_installation
from mailguard.cli.output import config_option, json_option
from mailguard.cli.why import local_time
from mailguard.delivery.queue_body import BodyFolder
from mailguard.model.event import Moved
from mailguard.pipeline.explain import explain, summary
from mailguard.state import quarantine as store
from mailguard.state import record
from mailguard.state.quarantine import HeldMail


@click.group()
def quarantine() -> None:
    """List, show, release and drop held mail."""


@quarantine.command(name="list")
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """List what is held, oldest first, with the reason."""
    installation = find_installation(config)
    found = store.held(installation.database)
    if as_json:
        click.echo(json.dumps([asdict(mail) for mail in found], indent=2))
        return
    for mail in found:
        click.echo(f"{local_time(mail.since)}  {mail.id}  {mail.mail_from or '<>'} -> {' '.join(mail.recipients)}")
        for told in record.find(installation.database, mail.id):
            if told.stage == "message":
                click.echo(f"    {told.subject[:60]}\n    {summary(told)}")
    if not found:
        click.echo("nothing is held")


@quarantine.command()
@click.argument("id")
@click.option("--raw", is_flag=True, help="print the message itself")
@config_option
def show(id: str, raw: bool, config: Path | None) -> None:
    """Show one held message: its verdict and its header, or all of it with --raw."""
    installation = find_installation(config)
    mail = _one(installation, id)
    message = _bodies(installation).read(mail.queue_id)
    if raw:
        click.echo(bytes(message), nl=False)
        return
    for told in record.find(installation.database, mail.id):
        click.echo(explain(told, clock=local_time) + "\n")
    click.echo(message.header.decode("utf-8", "replace").replace("\r\n", "\n"), nl=False)


@quarantine.command()
@click.argument("id")
@click.option("--no-learn", is_flag=True, help="deliver it, but do not teach the filters that it was wanted")
@config_option
def release(id: str, no_learn: bool, config: Path | None) -> None:
    """Deliver a held message after all, and teach the filters that it was wanted."""
    installation = find_installation(config)
    mail = _one(installation, id)
    if not no_learn:
        _teach(installation, mail, "INBOX")
    count = store.release(installation.database, mail, time.time())
    _bodies(installation).ring()
    _note(installation, mail, "released")
    click.echo(f"released to {count} recipient{'s' if count != 1 else ''}: {', '.join(mail.recipients)}")


@quarantine.command()
@click.argument("id")
@click.option("--spam", is_flag=True, help="teach the filters that it is spam")
@click.confirmation_option(prompt="The message will be gone for good. Go on?")
@config_option
def drop(id: str, spam: bool, config: Path | None) -> None:
    """Remove a held message for good; its verdict stays."""
    installation = find_installation(config)
    mail = _one(installation, id)
    if spam:
        _teach(installation, mail, "Junk")
    if store.drop(installation.database, mail):
        _bodies(installation).discard(mail.queue_id)
    _note(installation, mail, "dropped")
    click.echo(f"dropped {mail.id}")


def _teach(installation: Installation, mail: HeldMail, target: str) -> None:
    """Tells the filters as if each recipient had moved the message there. What they make of it stops nothing."""
    path = str(_bodies(installation).path(mail.queue_id))
    problems: list[str] = []
    with installation.learning(problems.append) as engine:
        for rcpt in mail.recipients:
            engine.observe(Moved(time.time(), mail.id, rcpt, "Quarantine", target, path))
    for problem in problems:
        click.echo(f"not learnt: {problem}", err=True)


def _one(installation: Installation, id: str) -> HeldMail:
    found = store.held(installation.database, id)
    if not found:
        raise click.ClickException(f"{id} is not in quarantine")
    return found[0]


def _bodies(installation: Installation) -> BodyFolder:
    return BodyFolder(installation.data_dir / "queue")


def _note(installation: Installation, mail: HeldMail, kind: str) -> None:
    row = {"id": mail.id, "at": time.time(), "kind": kind, "who": "postmaster", "text": ""}
    with installation.database.write() as connection:
        record.insert(connection, [], [row])
