"""``mailguard why`` and ``mailguard trace``: the stories of messages and refusals."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click

from mailguard.cli.installation import find_installation
from mailguard.cli.output import config_option, json_option
from mailguard.model.message import Message
from mailguard.pipeline.explain import explain, summary
from mailguard.state import record
from mailguard.state.record import Record
from mailguard.store.maildir import ident_of

_OURS = re.compile(r"\bid=([^;\s]+)")
_AGO = re.compile(r"(\d+)([mhdw])\Z")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@click.command()
@click.argument("name")
@json_option
@config_option
def why(name: str, as_json: bool, config: Path | None) -> None:
    """Tell why a message was treated as it was.

    NAME is an id (it stands in every reply and log line), a Message-ID, or the file of a message.
    """
    installation = find_installation(config)
    names = names_in(Path(name)) if Path(name).is_file() else [name]
    found: list[Record] = []
    for candidate in names:
        found = found or record.find(installation.database, candidate)
    if not found:
        raise click.ClickException(
            f"there is no record of {name}; records are kept for {installation.policy.general.keep_days} days"
        )
    if as_json:
        click.echo(json.dumps([asdict(item) for item in found], indent=2))
    else:
        click.echo("\n\n".join(explain(item, clock=local_time) for item in found))


def names_in(path: Path) -> list[str]:
    """The ids a message's file goes by: ours in X-Mailguard and in its name, then its Message-ID. Raises
    ClickException."""
    message = Message(path.read_bytes())
    ours = _OURS.findall(message.get("X-Mailguard"))
    names = [name for name in (*ours[:1], ident_of(path.name), message.get("Message-ID")) if name]
    if not names:
        raise click.ClickException(f"{path} has neither an X-Mailguard nor a Message-ID field, nor an id in its name")
    return names


@click.command()
@click.argument("words", nargs=-1)
@click.option("--from", "sender", default="", help="part of the sender's address, of the envelope or the author")
@click.option("--to", "recipient", default="", help="part of a recipient's address")
@click.option("--subject", default="", help="words of the subject")
@click.option("--action", type=click.Choice(["accept", "junk", "quarantine", "discard", "defer", "reject"]))
@click.option("--stage", type=click.Choice(["client", "sender", "recipient", "message"]))
@click.option("--since", default="7d", show_default=True, help="90m, 12h, 7d, 2w ago, or a date")
@click.option("--until", default="", help="the same")
@click.option("--limit", default=50, show_default=True, help="at most so many, newest first")
@json_option
@config_option
def trace(
    words: tuple[str, ...],
    sender: str,
    recipient: str,
    subject: str,
    action: str | None,
    stage: str | None,
    since: str,
    until: str,
    limit: int,
    as_json: bool,
    config: Path | None,
) -> None:
    """Find messages and refusals by sender, recipient, subject, time and outcome.

    Each of WORDS may stand in any of the addresses or in the subject.
    """
    query = record.Query(
        words=" ".join(words),
        sender=sender,
        recipient=recipient,
        subject=subject,
        action=action or "",
        stage=stage or "",
        since=moment(since),
        until=moment(until) if until else 0.0,
        limit=limit,
    )
    found = record.search(find_installation(config).database, query)
    if as_json:
        click.echo(json.dumps([asdict(item) for item in found], indent=2))
        return
    for item in found:
        to = " ".join(item.rcpt) or "-"
        click.echo(f"{local_time(item.at)}  {item.id}  {item.mail_from or '<>'} -> {to}  {item.subject[:60]}")
        click.echo(f"    {summary(item)}")
    if not found:
        click.echo("nothing found")


def moment(text: str) -> float:
    """A Unix time from ``7d`` (ago) or an ISO date or time. Raises BadParameter."""
    if match := _AGO.match(text):
        return time.time() - int(match[1]) * _SECONDS[match[2]]
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither like 7d nor a date like 2026-01-31") from None


def local_time(at: float) -> str:
    """A Unix time in local time."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
