"""rspamd: asks a running rspamd over HTTP, and tells its controller what people call junk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

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

WORDS = {
    "no action": "clean",
    "greylist": "greylist",
    "add header": "add-header",
    "rewrite subject": "rewrite-subject",
    "soft reject": "soft-reject",
    "reject": "reject",
    "quarantine": "quarantine",
    "discard": "discard",
}


class RspamdOptions(Options):
    """Options of the check."""

    address: Place = Field(
        default="127.0.0.1:11333", description="rspamd's normal worker: host:port or a socket's path"
    )
    controller: Place | Literal[""] = Field(
        default="", description="its controller (port 11334): is told what is moved into Junk and out of it; empty: not"
    )
    password: str = Field(default="", description="the controller's password")
    share: float = Field(default=0.0, ge=0, description="points for each point of rspamd's score, besides its action")
    max_size: int = Field(default=20_000_000, ge=0, description="octets beyond which rspamd is not asked")


@hookimpl
def describe() -> PluginInfo:
    return PluginInfo(
        "rspamd",
        summary="What does rspamd say?",
        words={
            "clean": "accept",
            "greylist": "accept",
            "add-header": "junk",
            "rewrite-subject": "junk",
            "soft-reject": "defer",
            "reject": "reject",
            "quarantine": "quarantine",
            "discard": "discard",
        },
        options=RspamdOptions,
        network=True,
        events=(Moved,),
        explain={
            "greylist": "rspamd would greylist it; mailguard's own greylist may be used instead",
            "add-header": "rspamd calls it spam",
        },
    )


@hookimpl
def check_message(
    ctx: Context[RspamdOptions], session: Session, envelope: Envelope, message: Message
) -> Finding | None:
    if len(message) > ctx.options.max_size:
        return None
    answer = _post(ctx, ctx.options.address, "/checkv2", _told(ctx, session, envelope), message.chunks())
    return _finding(answer, ctx.options.share)


@hookimpl
def observe(ctx: Context[RspamdOptions], event: Event) -> None:
    if isinstance(event, Moved) and event.says and ctx.options.controller:
        headers = [("Password", ctx.options.password), ("Deliver-To", event.account)]
        _post(ctx, ctx.options.controller, f"/learn{event.says}", headers, [Path(event.path).read_bytes()])


def _told(ctx: Context[RspamdOptions], session: Session, envelope: Envelope) -> list[tuple[str, str]]:
    told = [
        ("From", envelope.reverse_path),
        ("IP", session.peer_ip),
        ("Helo", session.helo),
        ("Hostname", session.ptr or "unknown"),
        ("User", session.user),
        ("Queue-Id", envelope.id),
        ("MTA-Name", ctx.hostname),
        ("TLS-Version", session.tls.version if session.tls else ""),
    ]
    return told + [("Rcpt", str(recipient.address)) for recipient in envelope.recipients]


def _post(
    ctx: Context[RspamdOptions],
    place: str,
    path: str,
    headers: Iterable[tuple[str, str]],
    chunks: Iterable[bytes | memoryview],
) -> Mapping[str, Any]:
    """One request (HTTP/1.0, so that the answer ends with the connection). Raises OSError, ValueError."""
    body = list(chunks)
    lines = [f"POST {path} HTTP/1.0", "Host: rspamd", f"Content-Length: {sum(map(len, body))}"]
    lines += [f"{name}: {' '.join(value.split())}" for name, value in headers if value]
    with Talk(place, ctx.deadline * 0.95) as talk:
        talk.send("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape"), *body)
        status, _, rest = talk.read_all().partition(b"\r\n")
    text = rest.partition(b"\r\n\r\n")[2]
    if b" 200 " not in status + b" ":
        raise OSError(f"{place}{path}: {status.decode('ascii', 'replace')}: {text[:200].decode('utf-8', 'replace')}")
    answer = json.loads(text)
    if not isinstance(answer, dict):
        raise ValueError(f"{place}{path}: the answer is no JSON object")
    return answer


def _finding(answer: Mapping[str, Any], share: float) -> Finding:
    action, score = str(answer.get("action", "no action")), float(answer.get("score", 0))
    symbols = [s for s in answer.get("symbols", {}).values() if isinstance(s, dict)]
    weighed = sorted(((float(s.get("score", 0)), s) for s in symbols), key=lambda pair: -abs(pair[0]))
    said = answer.get("messages", {}).get("smtp_message", "")
    required = answer.get("required_score")
    limit = f" of {required:g}" if isinstance(required, int | float) else ""
    return Finding(
        WORDS.get(action, "clean"),
        said or f"rspamd gives it {score:.1f} points{limit}",
        points=round(score * share, 2),
        facts={"score": score, "action": action, "symbols": {str(s.get("name")): p for p, s in weighed[:60]}},
        reasons=tuple((p, f"{s.get('name')} {s.get('description', '')}".strip()[:120]) for p, s in weighed[:20] if p),
    )
