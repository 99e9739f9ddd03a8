"""Greylisting: ask a stranger to come again in a few minutes; real servers do (RFC 6647)."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from datetime import timedelta
from functools import lru_cache
from typing import Literal

from pydantic import Field

from mailguard.plugin import (
    Address,
    Context,
    Duration,
    Envelope,
    Finding,
    Findings,
    Message,
    Options,
    PluginInfo,
    Session,
    hookimpl,
)

_RENEWALS = 36  # how often at most the trust in a client is written down anew before it would end


class GreylistOptions(Options):
    """Options of the check."""

    delay: Duration = Field(default=timedelta(minutes=5), description="how long a stranger must wait")
    window: Duration = Field(default=timedelta(hours=24), description="how long its next attempt is waited for")
    remember: Duration = Field(default=timedelta(days=36), description="how long a server that came again is trusted")
    at: Literal["message", "recipient"] = Field(
        default="message",
        description="when to answer: `recipient` saves the transfer, but cannot spare senders that DKIM or DMARC "
        "vouch for, since nothing is known of them yet",
    )
    ipv4_prefix: int = Field(default=24, ge=8, le=32, description="IPv4 addresses alike in so many bits are one client")
    ipv6_prefix: int = Field(default=64, ge=32, le=128, description="the same for IPv6")


@hookimpl
def describe() -> PluginInfo:
    return PluginInfo(
        "greylist",
        summary="Has this server proved that it tries again?",
        words={"grey": "defer", "known": "accept", "passed": "accept"},
        options=GreylistOptions,
        quick=True,  # a few short reads and writes of the state database
        after=("spf", "dkim", "dmarc"),
        skip_if='client.known || found["dmarc"] == "pass"',
        explain={
            "grey": "a server we do not know was asked to try again later",
            "passed": "the server came again after the delay",
            "known": "the server has come again before",
        },
    )


@hookimpl
def check_recipient(
    ctx: Context[GreylistOptions], session: Session, envelope: Envelope, recipient: Address, findings: Findings
) -> Finding | None:
    if ctx.options.at != "recipient" or session.authenticated:
        return None
    first = envelope.recipients[0].address if envelope.recipients else recipient
    return _check(ctx, _clients(ctx.options, session, envelope, findings), _pair(envelope, first))


@hookimpl
def check_message(
    ctx: Context[GreylistOptions], session: Session, envelope: Envelope, message: Message, findings: Findings
) -> Finding | None:
    if ctx.options.at != "message" or session.authenticated or findings.word("dmarc") == "pass":
        return None
    clients = _clients(ctx.options, session, envelope, findings)
    # Large senders try again from anywhere; it is the same message that comes back.
    if message_id := message.get("Message-ID"):
        clients.append(hashlib.sha256(message_id.encode("utf-8", "surrogateescape")).hexdigest()[:32])
    return _check(ctx, clients, _pair(envelope, envelope.recipients[0].address))


def _check(ctx: Context[GreylistOptions], clients: list[str], pair: str) -> Finding:
    options, now = ctx.options, ctx.now()
    for client in clients:
        if seen := ctx.store.get(f"client/{client}"):
            if now - float(seen) > options.remember.total_seconds() / _RENEWALS:
                _trust(ctx, client, now)
            return Finding("known", f"{client} has come again before")
    window = options.window.total_seconds()
    since = min(float(ctx.store.put_if_absent(f"try/{client}/{pair}", now, ttl=window)) for client in clients)
    wait = since + options.delay.total_seconds() - now
    if wait > 0:
        minutes = max(1, round(wait / 60))
        reason = f"greylisted: please try again in {minutes} minute{'s' if minutes > 1 else ''}"
        return Finding("grey", reason, detail=clients[0])
    for client in clients:
        ctx.store.delete(f"try/{client}/{pair}")
    _trust(ctx, clients[0], now)
    return Finding("passed", f"{clients[0]} came again after {round(now - since)} s")


def _trust(ctx: Context[GreylistOptions], client: str, now: float) -> None:
    ctx.store.put(f"client/{client}", now, ttl=ctx.options.remember.total_seconds())


def _clients(options: GreylistOptions, session: Session, envelope: Envelope, findings: Findings) -> list[str]:
    """What counts as the same client, strongest first: the domain where SPF vouches for the host, its network."""
    network = _network(session.peer_ip, options.ipv4_prefix, options.ipv6_prefix)
    if findings.word("spf") == "pass" and envelope.mail_from:
        return [envelope.mail_from.domain, network]
    return [network]


@lru_cache(maxsize=1024)  # a server that has come will come again
def _network(ip: str, ipv4_prefix: int, ipv6_prefix: int) -> str:
    address = ipaddress.ip_address(ip)
    prefix = ipv4_prefix if address.version == 4 else ipv6_prefix
    return str(ipaddress.ip_network(f"{address}/{prefix}", strict=False))


def _pair(envelope: Envelope, first: Address) -> str:
    # The first recipient stands for the message, so that one with many waits once (RFC 6647 §5); bulk senders
    # number their bounce addresses, and the number must not make each attempt a new one.
    sender = re.sub(r"\d+", "#", envelope.reverse_path.casefold())
    return f"{sender}/{first.key}"
