"""webhook: asks a web service of your own about each message, and tells it what happened later."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import ssl
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from mailguard.plugin import (
    Context,
    Envelope,
    Event,
    Finding,
    Findings,
    Message,
    Options,
    PluginInfo,
    Session,
    hookimpl,
)

MAX_ANSWER = 65_536  # octets


class WebhookOptions(Options):
    """Options of the check."""

    url: str = Field(description="where to POST: https://..., or http:// to a service nearby")
    secret: str = Field(default="", description="signs each request: X-Mailguard-Signature: sha256=HMAC of the body")
    message: bool = Field(default=False, description="send the whole message too (base64), not only its header")
    max_size: int = Field(default=5_000_000, ge=0, description="octets beyond which the message itself is left out")
    ask: bool = Field(default=True, description="ask about each message; false: only tell the events")
    events: tuple[str, ...] = Field(default=(), description="events to tell afterwards: Delivered, Bounced, Moved...")
    ca_file: str = Field(default="", description="certificates to trust instead of the system's")

    @field_validator("url")
    @classmethod
    def _url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f'"{url}" is no http or https address')
        return url


@hookimpl
def describe() -> PluginInfo:
    return PluginInfo(
        "webhook",
        summary="What does a web service of our own say?",
        words={
            "ok": "accept",
            "suspect": "score 2",
            "spam": "junk",
            "hold": "quarantine",
            "later": "defer",
            "bad": "reject",
            "drop": "discard",
        },
        options=WebhookOptions,
        after=("spf", "dkim", "arc", "dmarc", "spamscore"),
        network=True,
    )


@hookimpl
def check_message(
    ctx: Context[WebhookOptions], session: Session, envelope: Envelope, message: Message, findings: Findings
) -> Finding | None:
    if not ctx.options.ask:
        return None
    told = _told(ctx, session, envelope, message)
    told["findings"] = {name: {"word": f.word, "reason": f.reason, "points": f.points} for name, f in findings.items()}
    answer = _post(ctx, {"kind": "message", **told})
    if not answer:
        return None
    word, facts = answer.get("word"), answer.get("facts", {})
    if not isinstance(word, str) or not isinstance(facts, dict):
        raise ValueError(f"the answer needs a word, and facts must be an object: {answer!r}"[:300])
    return Finding(word, str(answer.get("reason", ""))[:500], points=float(answer.get("points", 0)), facts=facts)


@hookimpl
def observe(ctx: Context[WebhookOptions], event: Event) -> None:
    if type(event).__name__ in ctx.options.events:
        _post(ctx, {"kind": "event", "event": type(event).__name__, **asdict(event)})


def _told(ctx: Context[WebhookOptions], session: Session, envelope: Envelope, message: Message) -> dict[str, Any]:
    told: dict[str, Any] = {
        "id": envelope.id,
        "time": ctx.now(),
        "hostname": ctx.hostname,
        "role": session.role.value,
        "client": {"ip": session.peer_ip, "ptr": session.ptr, "helo": session.helo, "tls": session.tls is not None},
        "user": session.user,
        "mail_from": envelope.reverse_path,
        "rcpt": [str(recipient.address) for recipient in envelope.recipients],
        "size": len(message),
        "header": [[f.name, f.decoded] for f in message.fields],
    }
    if ctx.options.message and len(message) <= ctx.options.max_size:
        told["message"] = base64.b64encode(bytes(message)).decode()
    return told


def _post(ctx: Context[WebhookOptions], told: Mapping[str, Any]) -> dict[str, Any]:
    """The answer, empty where there is nothing to say. Raises OSError, ValueError, HTTPException."""
    body = json.dumps(told, default=str).encode()
    headers = {"Content-Type": "application/json", "User-Agent": "mailguard"}
    if ctx.options.secret:
        digest = hmac.new(ctx.options.secret.encode(), body, hashlib.sha256).hexdigest()
        headers["X-Mailguard-Signature"] = f"sha256={digest}"
    parts = urlsplit(ctx.options.url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = _connect(ctx, parts.scheme, str(parts.hostname), parts.port)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        text = response.read(MAX_ANSWER + 1)
    finally:
        connection.close()
    if not 200 <= response.status < 300:
        raise OSError(f"{ctx.options.url}: {response.status} {response.reason}")
    if len(text) > MAX_ANSWER:
        raise ValueError(f"the answer is longer than {MAX_ANSWER} octets")
    answer = json.loads(text) if text.strip() else {}
    if not isinstance(answer, dict):
        raise ValueError("the answer is no JSON object")
    return answer


def _connect(ctx: Context[WebhookOptions], scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
    timeout = ctx.deadline * 0.95
    if scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=timeout)
    context = ssl.create_default_context(cafile=ctx.options.ca_file or None)
    return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
