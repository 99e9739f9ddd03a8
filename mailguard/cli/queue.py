"""``mailguard queue``: what waits to leave, why, and what to do about it."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from mailguard.cli.installation import find_installation
from mailguard.cli.output import config_option
from mailguard.cli.queue_print import explain, print_json_lines, print_table, row, span, when
from mailguard.delivery.nexthop import Routes
from mailguard.delivery.queue import Queue
from mailguard.delivery.queue_admin import Filter, QueueAdmin

F = TypeVar("F", bound=Callable[..., Any])
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DESTINATION = re.compile(r"[A-Za-z0-9.-]+\Z|\[[^\]\s]+\]:\d{1,5}\Z")


class Age(click.ParamType[float]):
    """A span such as ``30m``, ``4h`` or ``2d``, in seconds."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Reads it; fails with a usage error."""
        if isinstance(value, float):  # the default
            return value
        match = re.fullmatch(r"(\d+)([smhd]?)", str(value))
        if not match:
            self.fail(f"{value!r} is not a span such as 30m, 4h or 2d", param, ctx)
        return float(match[1]) * _UNITS.get(match[2], 1)


def open_queue(config: Path | None) -> QueueAdmin:
    """The queue of the server that this file configures."""
    installation = find_installation(config)
    folder = installation.data_dir / "queue"
    if not folder.is_dir():
        raise click.ClickException(f"there is no queue in {installation.data_dir}; has the server run yet?")
    routes = Routes(installation.main.relay)
    return QueueAdmin(Queue(installation.database, folder, destination=routes.destination))


def _with_queue(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the queue; ``-c`` may stand before the command's name or behind it."""

    @click.pass_context
    def run(ctx: click.Context, /, *args: Any, config: Path | None, **more: Any) -> Any:
        admin = open_queue(config or ctx.obj)
        try:
            return ctx.invoke(command, admin, *args, **more)
        finally:
            admin.close()

    return config_option(functools.update_wrapper(run, command))


def _filters(command: F) -> F:
    for option in reversed(
        (
            click.argument("ident", metavar="[ID]", required=False, default=""),
            click.option("--from", "sender", default="", help="sender: an address, a domain, or <>"),
            click.option("--to", "recipient", default="", help="recipient: an address or a domain"),
            click.option("--destination", default="", help="where it goes, as the list shows it"),
            click.option("--older-than", type=Age(), default=0.0, help="in the queue for longer, such as 4h"),
        )
    ):
        command = option(command)
    return command


def _wanted(ident: str, sender: str, recipient: str, destination: str, older_than: float) -> Filter:
    return Filter(ident, sender, recipient, destination, older_than=older_than)


def _some(everything: bool, wanted: Filter) -> Filter:
    if wanted == Filter() and not everything:
        raise click.UsageError("say which: an ID, a filter, or --all")
    return wanted


@click.group()
@config_option
@click.pass_context
def queue(ctx: click.Context, config: Path | None) -> None:
    """Mail that waits to leave."""
    ctx.obj = config


@queue.command("list")
@_filters
@click.option("--held/--not-held", default=None, help="only what is (not) held")
@click.option("--json", "as_json", is_flag=True, help="one JSON object per line")
@_with_queue
def list_(
    admin: QueueAdmin,
    ident: str,
    sender: str,
    recipient: str,
    destination: str,
    older_than: float,
    held: bool | None,
    as_json: bool,
) -> None:
    """List recipients that wait, oldest first."""
    wanted = Filter(ident, sender, recipient, destination, held, older_than)
    rows = (row(message, entry) for message, entry in admin.entries(wanted))
    if as_json:
        print_json_lines(rows)
        return
    print_table(("id", "sender", "recipient", "destination", "state", "tries", "next", "last answer"), rows)


@queue.command()
@click.argument("ident", metavar="ID")
@click.option("--body", is_flag=True, help="the body, too")
@click.option("--json", "as_json", is_flag=True, help="as JSON")
@_with_queue
def show(admin: QueueAdmin, ident: str, body: bool, as_json: bool) -> None:
    """Show one message: its envelope, its recipients, its header."""
    found = list(admin.entries(Filter(ident)))
    if not found:
        raise click.ClickException(f"nothing in the queue has the id {ident}")
    if as_json:
        print_json_lines(row(message, entry) for message, entry in found)
        return
    print_table(("recipient", "destination", "state", "tries", "next", "last answer"), (row(*pair) for pair in found))
    message = admin.message(found[0][0].id)
    click.echo(message.header.decode("utf-8", "replace").replace("\r\n", "\n"), nl=False)
    if body:
        click.echo(bytes(message.body).decode("utf-8", "replace").replace("\r\n", "\n"), nl=False)


@queue.command()
@click.argument("ident", metavar="ID")
@_with_queue
def why(admin: QueueAdmin, ident: str) -> None:
    """Say in words why a message is still here, and what comes next."""
    found = list(admin.entries(Filter(ident)))
    if not found:
        raise click.ClickException(
            f"nothing in the queue has the id {ident}; `mailguard why {ident}` tells what became of it"
        )
    for message, entry in found:
        click.echo(f"{entry.recipient.address} (from {message.envelope.reverse_path or '<>'}):")
        for line in explain(message, entry, time.time()):
            click.echo(f"  {line}")


@queue.command()
@click.option("--json", "as_json", is_flag=True, help="one JSON object per line")
@_with_queue
def destinations(admin: QueueAdmin, as_json: bool) -> None:
    """One line per destination: how much waits, and what was heard last."""
    now = time.time()
    rows = (
        {
            "destination": view.name,
            "waiting": view.waiting,
            "held": view.held,
            "oldest": span(now - view.oldest),
            "next": when(view.next_at, now) if view.waiting else "",
            "last answer": " ".join(filter(None, (str(view.last) if view.last else "", view.last_host))),
        }
        for view in admin.destinations()
    )
    if as_json:
        print_json_lines(rows)
        return
    print_table(("destination", "waiting", "held", "oldest", "next", "last answer"), rows)


def _change(name: str, text: str, act: Callable[[QueueAdmin, Filter, str], int], option: str = "") -> None:
    def run(admin: QueueAdmin, everything: bool, **given: Any) -> None:
        value = given.pop("value", "") or ""
        count = act(admin, _some(everything, _wanted(**given)), value)
        click.echo(f"{name}: {count} recipient{'' if count == 1 else 's'}")

    command: Any = _with_queue(run)
    command = click.option("--all", "everything", is_flag=True, help="the whole queue")(command)
    if option:
        command = click.option(option, "value", required=option == "--via", help=_VALUE[option])(command)
    queue.command(name, help=text)(_filters(command))


_VALUE = {
    "--reason": "why, for whoever looks at it later",
    "--via": "a domain whose MX to ask, or [host]:port",
}


def _reroute(admin: QueueAdmin, wanted: Filter, destination: str) -> int:
    if not _DESTINATION.match(destination):
        raise click.UsageError(f"--via: {destination!r} is neither a domain nor [host]:port")
    return admin.reroute(wanted, destination)


_change("retry", "Make waiting mail due at once.", lambda admin, wanted, _: admin.retry(wanted))
_change(
    "hold", "Keep mail from being sent.", lambda admin, wanted, why: admin.hold(wanted, why or "by hand"), "--reason"
)
_change("release", "Let held mail go.", lambda admin, wanted, _: admin.release(wanted))
_change("drop", "Delete mail for good; nobody is told.", lambda admin, wanted, _: admin.drop(wanted))
_change("reroute", "Send mail another way.", _reroute, "--via")
