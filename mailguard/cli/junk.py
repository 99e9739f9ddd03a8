"""``mailguard junk``: teach the spam filter, take lessons back, ask it why, see what it has learnt."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import click

from mailguard.cli.installation import Installation, find_installation
from mailguard.cli.output import config_option, json_option
from mailguard.cli.why import local_time
from mailguard.net.resolver import DnsResolver
from mailguard.pipeline.context import Context
from mailguard.pipeline.finding import Finding
from mailguard.pipeline.registry import Plugin, PluginError
from mailguard.state.kv import KeyValueStore
from mailguard.store.maildir import messages

FILTER = "spamscore"
_BOXES = ("cur", "new")


class Outcome(Protocol):
    """What became of a lesson; ``done`` is learnt, corrected, undone, known or unknown, scores are in points."""

    done: str
    before: float
    after: float


class Desk(Protocol):
    """What a learning filter offers to this command, as ``desk(ctx)`` of its plugin."""

    def teach(self, stored: bytes, account: str, *, spam: bool, now: float, origin: str = ...) -> Outcome:
        """Teaches one message."""

    def undo(self, stored: bytes, account: str, *, spam: bool) -> Outcome:
        """Takes a lesson back."""

    def explain(self, stored: bytes, account: str, now: float) -> Finding:
        """What it thinks of a message now."""

    def stats(self) -> Sequence[Any]:
        """One dataclass for each account."""

    def rebuild(self, account: str, messages: Iterable[bytes]) -> tuple[int, int]:
        """Learns an account's lessons again."""


@click.group()
def junk() -> None:
    """Teach the spam filter, ask it why, see what it has learnt."""


label_option = click.option("--spam/--ham", "spam", required=True, default=None, help="what the messages are")
account_option = click.option("--account", default="", help="whose mail it is; told by the path inside the mail folder")
paths_argument = click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))


@junk.command()
@paths_argument
@label_option
@account_option
@config_option
def train(paths: tuple[Path, ...], spam: bool, account: str, config: Path | None) -> None:
    """Teach messages as spam or ham: files, Maildirs, or folders of them.

    What was taught before is not taught twice; what was taught as the other is corrected.
    """
    installation = find_installation(config)
    counts: dict[str, int] = {}
    with open_desk(installation) as desk, click.progressbar(list(messages_in(paths)), label="learning") as files:
        for path in files:
            done = desk.teach(path.read_bytes(), _owner(installation, path, account), spam=spam, now=time.time()).done
            counts[done] = counts.get(done, 0) + 1
    _tell(counts)


@junk.command()
@paths_argument
@label_option
@account_option
@config_option
def untrain(paths: tuple[Path, ...], spam: bool, account: str, config: Path | None) -> None:
    """Take lessons back: messages taught as spam (or ham) by mistake."""
    installation = find_installation(config)
    counts: dict[str, int] = {}
    with open_desk(installation) as desk:
        for path in messages_in(paths):
            done = desk.undo(path.read_bytes(), _owner(installation, path, account), spam=spam).done
            counts[done] = counts.get(done, 0) + 1
    _tell(counts)


@junk.command()
@click.argument("file", type=click.File("rb"))
@account_option
@json_option
@config_option
def explain(file: Any, account: str, as_json: bool, config: Path | None) -> None:
    """Tell what speaks for and against a message being spam, as of now."""
    with open_desk(find_installation(config)) as desk:
        found = desk.explain(file.read(), account.lower(), time.time())
    if as_json:
        click.echo(json.dumps(asdict(found), default=list, indent=2))
        return
    click.echo(f"{found.word}: {found.points:+.1f} points, junk from 6 ({found.detail})")
    for title, sign in (("for spam", 1), ("against", -1)):
        reasons = [(points, text) for points, text in found.reasons if points * sign > 0]
        if reasons:
            click.echo(f"{title}:")
        for points, text in reasons:
            click.echo(f"  {points:+.1f}  {text}")


@junk.command()
@json_option
@config_option
def stats(as_json: bool, config: Path | None) -> None:
    """Show what each account taught, and how often the filter was wrong of late."""
    with open_desk(find_installation(config)) as desk:
        rows = desk.stats()
    if as_json:
        click.echo(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for row in rows:
        click.echo(f"{row.account}  {row.ham} ham and {row.spam} spam learnt, last {local_time(row.last_at)}")
        click.echo(f"    {row.confirmed} ham confirmed after arrival; junk from {row.line:.2f} log-odds")
        click.echo(
            f"    of the last {row.lessons} lessons {row.rescued} rescued mail from Junk and {row.missed} reported"
            f" missed spam: {100 * row.error:.1f} % corrections"
        )
    if not rows:
        click.echo("nothing was learnt yet")


@junk.command()
@click.argument("account")
@config_option
def rebuild(account: str, config: Path | None) -> None:
    """Make an account's model anew from its lessons and the mail that is still there."""
    installation = find_installation(config)
    folder = _mail_folder(installation) / account.partition("@")[2] / account.partition("@")[0]
    if not folder.is_dir():
        raise click.ClickException(f"there is no mail of {account} in {folder}")
    with open_desk(installation) as desk:
        again, gone = desk.rebuild(account, messages(folder))
    click.echo(f"learnt {again} messages again; {gone} lessons are about mail that is gone")


@contextmanager
def open_desk(installation: Installation) -> Iterator[Desk]:
    """The learning filter of an installation, started. Raises ClickException where there is none."""
    become_owner(installation.data_dir)
    check = next((check for check in installation.policy.checks if check.name == FILTER), None)
    try:
        plugin = check.plugin if check else installation.registry.load(FILTER)
        options = check.options if check else plugin.info.options()
        ctx = _context(installation, options)
        ctx.state_dir.mkdir(parents=True, exist_ok=True)
        plugin.call("start", ctx=ctx)
    except (PluginError, OSError) as error:
        raise click.ClickException(str(error)) from None
    try:
        yield _object(plugin).desk(ctx)
    finally:
        plugin.call("stop", ctx=ctx)


def _context(installation: Installation, options: Any) -> Context[Any]:
    return Context(
        options=options,
        dns=DnsResolver(installation.main.dns),
        state_dir=installation.data_dir / "plugins" / FILTER,
        store=KeyValueStore(installation.database, FILTER),
        log=installation.log.bind(plugin=FILTER),
        now=time.time,
        hostname=installation.hostname,
    )


def _object(plugin: Plugin) -> Any:
    """The object whose hooks a plugin's are."""
    found = plugin.hooks["describe"].get_hookimpls()[0].plugin
    if not hasattr(found, "desk"):
        raise click.ClickException(f"the plugin {plugin.name} ({plugin.origin}) cannot be taught by command")
    return found


def become_owner(folder: Path) -> None:
    """Goes on as the owner of the data folder when called by root, so that the server can write what we make."""
    if os.geteuid() == 0 and folder.is_dir():
        owner = folder.stat()
        os.setegid(owner.st_gid)
        os.seteuid(owner.st_uid)


def messages_in(paths: Iterable[Path]) -> Iterator[Path]:
    """The message files named by these paths: files as they are, Maildirs by ``cur`` and ``new`` with all their
    folders, other folders with every file below."""
    for path in paths:
        if path.is_file():
            yield path
        elif any((path / box).is_dir() for box in _BOXES):
            yield from sorted(file for box in _BOXES for file in path.rglob(f"{box}/*") if file.is_file())
        else:
            yield from sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))


def _mail_folder(installation: Installation) -> Path:
    return installation.data_dir / "mail"


def _owner(installation: Installation, path: Path, account: str) -> str:
    if account:
        return account.lower()
    folder = _mail_folder(installation).resolve()
    resolved = path.resolve()
    if not resolved.is_relative_to(folder):
        raise click.UsageError(f"{path} lies outside {folder}: say whose mail it is with --account")
    domain, local = resolved.relative_to(folder).parts[:2]
    return f"{local}@{domain}".lower()


def _tell(counts: dict[str, int]) -> None:
    said = {
        "learnt": "learnt",
        "corrected": "corrected",
        "undone": "taken back",
        "known": "already known",
        "unknown": "never taught so",
    }
    parts = [f"{counts[key]} {text}" for key, text in said.items() if key in counts]
    click.echo(", ".join(parts) or "no messages found")
