"""spamassassin: asks a running spamd, and tells it what people call junk (SPAMD protocol 1.5)."""

from __future__ import annotations

import re
from email.utils import formatdate
from pathlib import Path

from pydantic import Field

from mailguard.plugin import (
    Context,
    Envelope,
    Event,
    Finding,
    Message,
    Moved,
    Options,
    Place,
    PluginInfo,
    Session,
    Talk,
    hookimpl,
)

_STATUS = re.compile(rb"SPAMD/\S+ (\d+) (.*)")
_SPAM = re.compile(rb"(?im)^Spam: *(true|false) *; *(-?[\d.]+) */ *(-?[\d.]+)")
_RULE = re.compile(r"(?m)^\s*(-?\d+\.\d+) ([A-Z][A-Z0-9_]+) +(.*)$")


class SpamassassinOptions(Options):
    """Options of the check."""

    address: Place = Field(default="127.0.0.1:783", description="where spamd listens: host:port or a socket's path")
    user: str = Field(default="", description="the user whose preferences and learning are used; empty: spamd's own")
    share: float = Field(default=0.0, ge=0, description="points for each point of its score, besides the word's action")
    max_size: int = Field(default=512_000, ge=0, description="octets beyond which it is not asked")
    learn: bool = Field(default=False, description="tell it what is moved into Junk and out of it (spamd --allow-tell)")


@hookimpl
def describe() -> PluginInfo:
    return PluginInfo(
        "spamassassin",
        summary="What does SpamAssassin say?",
        words={"spam": "junk", "ham": "accept"},
        options=SpamassassinOptions,
        network=True,
        events=(Moved,),
        explain={"spam": "its score reached SpamAssassin's own threshold", "ham": "it did not"},
    )


@hookimpl
def check_message(
    ctx: Context[SpamassassinOptions], session: Session, envelope: Envelope, message: Message
) -> Finding | None:
    if len(message) > ctx.options.max_size:
        return None
    header, report = _ask(ctx, "REPORT", [], _trace(ctx, session, envelope), *message.chunks())
    found = _SPAM.search(header)
    if found is None:
        raise ValueError("the answer of spamd has no Spam field")
    score, limit = float(found[2]), float(found[3])
    rules = [(float(points), name, text) for points, name, text in _RULE.findall(report.decode("utf-8", "replace"))]
    rules.sort(key=lambda rule: -abs(rule[0]))
    return Finding(
        "spam" if found[1].lower() == b"true" else "ham",
        f"SpamAssassin gives it {score:.1f} points of {limit:g}",
        points=round(score * ctx.options.share, 2),
        facts={"score": score, "limit": limit, "rules": {name: points for points, name, _ in rules[:60]}},
        reasons=tuple((points, f"{name} {text}".strip()[:120]) for points, name, text in rules[:20] if points),
    )


@hookimpl
def observe(ctx: Context[SpamassassinOptions], event: Event) -> None:
    if isinstance(event, Moved) and event.says and ctx.options.learn:
        _ask(ctx, "TELL", [f"Message-class: {event.says}", "Set: local"], Path(event.path).read_bytes())


def _trace(ctx: Context[SpamassassinOptions], session: Session, envelope: Envelope) -> bytes:
    """What an MTA would have put on top by now: SpamAssassin reads the client from there."""
    text = (
        f"Return-Path: <{envelope.reverse_path}>\r\n"
        f"Received: from {session.helo or 'unknown'} ({session.ptr or 'unknown'} [{session.peer_ip}])\r\n"
        f"\tby {ctx.hostname} with {'ESMTPS' if session.tls else 'ESMTP'} id {envelope.id};\r\n"
        f"\t{formatdate(ctx.now())}\r\n"
    )
    return text.encode("utf-8", "surrogateescape")


def _ask(
    ctx: Context[SpamassassinOptions], command: str, fields: list[str], *chunks: bytes | memoryview
) -> tuple[bytes, bytes]:
    """One request; returns header and body of the answer. Raises OSError."""
    lines = [f"{command} SPAMC/1.5", f"Content-length: {sum(map(len, chunks))}", *fields]
    if ctx.options.user:
        lines.append(f"User: {ctx.options.user}")
    with Talk(ctx.options.address, ctx.deadline * 0.95) as talk:
        talk.send("\r\n".join([*lines, "", ""]).encode(), *chunks)
        talk.end()
        header, _, body = talk.read_all().partition(b"\r\n\r\n")
    status = _STATUS.match(header)
    if status is None or status[1] != b"0":
        raise OSError(f"spamd says: {header.splitlines()[0].decode('ascii', 'replace') if header else 'nothing'}")
    return header, body
