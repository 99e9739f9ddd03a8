"""The nine hooks, in the order a message meets them. A plugin implements those it wants and names only the
arguments it wants. Plugins find; the policy decides: a plugin never picks a reply, never changes a message,
never sees a socket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pluggy

from mailguard.model.address import Address
from mailguard.model.envelope import Envelope
from mailguard.model.event import Event
from mailguard.model.message import Message
from mailguard.model.session import Session
from mailguard.pipeline.context import Context, PluginInfo
from mailguard.pipeline.finding import Finding, Findings
from mailguard.pipeline.verdict import Verdict

PROJECT = "mailguard"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec(firstresult=True)
def describe() -> PluginInfo:  # type: ignore[empty-body]
    """Says what the plugin is: its name, the words it may find with their default actions, its options, and the
    plugins that must run before it. Called once, when the policy file is loaded."""


@hookspec
def start(ctx: Context[Any]) -> None:
    """Opens what the plugin needs (files, maps, a table). Called once in every worker, before the first
    connection; raising makes the start of the server, or the reload, fail with that text."""


@hookspec
def check_client(ctx: Context[Any], session: Session) -> Finding | None:
    """A client has connected; it has not been greeted yet."""


@hookspec
def check_sender(ctx: Context[Any], session: Session, envelope: Envelope, findings: Findings) -> Finding | None:
    """MAIL FROM was given; ``envelope.mail_from`` is None for bounces."""


@hookspec
def check_recipient(
    ctx: Context[Any], session: Session, envelope: Envelope, recipient: Address, findings: Findings
) -> Finding | None:
    """One RCPT TO was given, and the address is ours or may be relayed to. Called for each recipient."""


@hookspec
def check_message(
    ctx: Context[Any], session: Session, envelope: Envelope, message: Message, findings: Findings
) -> Finding | None:
    """The whole message has arrived and has not been answered yet."""


@hookspec
def stamp(
    ctx: Context[Any], session: Session, envelope: Envelope, message: Message, verdict: Verdict
) -> Sequence[tuple[str, str]] | None:
    """The message will be accepted: header fields ``(name, value)`` to put on top of it."""


@hookspec
def observe(ctx: Context[Any], event: Event) -> None:
    """Something happened (see ``mailguard.model.event``): delivered, bounced, moved to Junk by its reader.
    Called after the fact, on a thread of its own, in the worker where it happened."""


@hookspec
def stop(ctx: Context[Any]) -> None:
    """Closes what ``start`` opened. Called once in every worker, at its end."""
