"""``mailguard try``: the whole pipeline on a message, without delivering anything."""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import click

from mailguard.cli.installation import find_installation
from mailguard.cli.output import config_option, json_option
from mailguard.cli.why import local_time
from mailguard.model.address import Address, AddressError
from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.model.session import Role, Session, TlsInfo
from mailguard.pipeline.engine import Engine
from mailguard.pipeline.explain import explain
from mailguard.pipeline.facts import author
from mailguard.pipeline.record import Collector
from mailguard.pipeline.registry import PluginError
from mailguard.state.record import Record, from_row


@click.command(name="try")
@click.argument("file", type=click.File("rb"))
@click.option("--ip", default="192.0.2.1", show_default=True, help="the client's address")
@click.option("--helo", default="localhost", show_default=True, help="what it calls itself")
@click.option("--ptr", default="", help="its confirmed host name")
@click.option("--mail-from", default=None, help="the envelope sender, empty for a bounce; default: the author")
@click.option("--rcpt", multiple=True, default=("postmaster@localhost",), help="a recipient; may be repeated")
@click.option("--user", default="", help="the signed-in account, for mail of our own users")
@click.option("--show-headers", is_flag=True, help="print the fields that would be put on top, too")
@json_option
@config_option
def try_(
    file: BinaryIO,
    ip: str,
    helo: str,
    ptr: str,
    mail_from: str | None,
    rcpt: tuple[str, ...],
    user: str,
    show_headers: bool,
    as_json: bool,
    config: Path | None,
) -> None:
    """Run FILE (- for standard input) through the pipeline as if it arrived now.

    Nothing is delivered or recorded. Exits with 0 if it would be accepted, else with 1.
    """
    message = Message(crlf(file.read()))
    sender = str(author(message.get("From"))[1] or "") if mail_from is None else mail_from
    try:
        recipients = tuple(Recipient(Address.parse(address)) for address in rcpt)
        envelope = Envelope("TRIAL", Address.parse(sender) if sender else None, recipients, size=len(message))
    except AddressError as error:
        raise click.BadParameter(str(error)) from None
    role = Role.SUBMISSION if user else Role.MX
    tls = TlsInfo("TLSv1.3", "") if user else None
    session = Session("TRIAL", ip, role=role, helo=helo, ptr=ptr, esmtp=True, user=user, tls=tls)
    collector = Collector()
    with tempfile.TemporaryDirectory(prefix="mailguard-try-") as folder:
        engine = find_installation(config).engine(collector, state_dir=Path(folder))
        try:
            engine.start()
        except PluginError as error:
            raise click.ClickException(str(error)) from None
        added = run(engine, session, envelope, message)
        engine.stop()
    records = [from_row(row) for row in collector.rows]
    if as_json:
        click.echo(json.dumps([asdict(item) for item in records], indent=2))
    else:
        click.echo("\n\n".join(explain(item, clock=local_time) for item in records))
        click.echo(f"\n{added.decode('utf-8', 'replace')}" if show_headers else "", nl=False)
    raise SystemExit(0 if accepted(records) else 1)


def run(engine: Engine, session: Session, envelope: Envelope, message: Message) -> bytes:
    """Takes a message through all stages until it is refused; returns the fields put on top of an accepted one."""
    connection = engine.connect(session)
    if connection.verdict.action.refuses:
        return b""
    mail = connection.mail(session, envelope)
    if mail.verdict.action.refuses:
        return b""
    taken = tuple(
        recipient for recipient in envelope.recipients if not mail.recipient(envelope, recipient.address).action.refuses
    )
    if not taken:
        return b""
    envelope = Envelope(envelope.id, envelope.mail_from, taken, size=envelope.size)
    verdict = mail.message(envelope, message)
    return b"" if verdict.action.refuses else mail.stamp(envelope, message, verdict).prefix


def accepted(records: list[Record]) -> bool:
    """Whether the message would have been accepted for somebody, and into the inbox."""
    return any(item.stage == "message" and item.action == "accept" for item in records)


def crlf(octets: bytes) -> bytes:
    """The octets with CRLF line ends, as they travel."""
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
