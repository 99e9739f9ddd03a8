"""What ``mailguard queue`` prints: rows as tables or JSON, and how a recipient stands in sentences."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from mailguard.delivery.queue_entry import QueuedMessage, QueuedRecipient

_ROWS = 100  # of one table


def explain(message: QueuedMessage, entry: QueuedRecipient, now: float) -> Iterator[str]:
    """The state of one recipient in sentences."""
    where = f"{entry.destination}, into {entry.recipient.mailbox}" if entry.recipient.mailbox else entry.destination
    yield f"It came in {span(now - message.created)} ago and goes to {where}."
    if entry.attempts:
        times = "once" if entry.attempts == 1 else f"{entry.attempts} times"
        yield f"It was tried {times}, last {span(now - entry.last_at)} ago."
    if entry.last:
        yield f"The last answer was: {entry.last}" + (f" (from {entry.last_host})" if entry.last_host else "")
    if entry.last_tls:
        yield f"The connection was secured by: {entry.last_tls}."
    if entry.held:
        yield f"It is held: {entry.hold_reason or 'no reason given'}."
        yield f"Let it go with `mailguard queue release {message.id}`."
    elif entry.lease_by and entry.due_at > now:
        yield "It is being delivered right now."
    elif entry.due_at > now:
        yield f"The next attempt is due in {span(entry.due_at - now)}."
        yield f"`mailguard queue retry {message.id}` makes it now."
    else:
        yield "It is due; if it stays so, is the server running?"


def row(message: QueuedMessage, entry: QueuedRecipient) -> dict[str, Any]:
    """One recipient that waits, as lists and JSON show it."""
    now = time.time()
    leased = bool(entry.lease_by) and entry.due_at > now
    return {
        "id": message.id,
        "sender": message.envelope.reverse_path,
        "recipient": str(entry.recipient.address),
        "destination": entry.destination,
        "mailbox": entry.recipient.mailbox,
        "state": "held" if entry.held else "sending" if leased else "waiting",
        "reason": entry.hold_reason,
        "size": message.size,
        "created": message.created,
        "tries": entry.attempts,
        "next_at": entry.due_at,
        "next": "" if entry.held else when(entry.due_at, now),
        "last answer": str(entry.last) if entry.last else "",
        "last_host": entry.last_host,
        "last_at": entry.last_at,
        "tls": entry.last_tls,
    }


def print_json_lines(rows: Iterator[dict[str, Any]]) -> None:
    """One object to a line, as they come."""
    with _until_head_has_enough():
        for each in rows:
            sys.stdout.write(json.dumps(each, ensure_ascii=False) + "\n")


def print_table(columns: tuple[str, ...], rows: Iterator[dict[str, Any]]) -> None:
    """A table for each hundred rows: the first is there at once, however long the queue."""
    first = list(itertools.islice(rows, _ROWS))
    if not first:
        click.echo("The queue is empty.")
        return
    from rich.console import Console  # `list --json | head` is to be there at once
    from rich.table import Table
    from rich.text import Text

    console = Console()
    with _until_head_has_enough():
        while first:
            table = Table(*columns, box=None, header_style="bold", pad_edge=False)
            for column in table.columns:
                column.overflow = "fold"
            for row in first:
                table.add_row(*(Text(str(row[column])) for column in columns))  # what others say is no markup
            with console.capture() as captured:
                console.print(table)
            sys.stdout.write(captured.get())
            first = list(itertools.islice(rows, _ROWS))


@contextlib.contextmanager
def _until_head_has_enough() -> Iterator[None]:
    """Ends in silence when nobody reads on, as with ``| head``."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more at the end


def when(at: float, now: float) -> str:
    """When something comes, both in Unix time."""
    return "now" if at <= now else f"in {span(at - now)}"


def span(seconds: float) -> str:
    """A length of time in the largest unit of which it has two."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(int(seconds), 0)} s"
