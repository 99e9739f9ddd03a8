"""DKIM: did the signing domain vouch for this message, and is it unchanged? (RFC 6376, RFC 8301, RFC 8463)"""

from __future__ import annotations

from pydantic import Field

from mailguard.plugin import (
    AuthResult,
    Context,
    Envelope,
    Finding,
    Message,
    Options,
    PluginInfo,
    Session,
    SignatureResult,
    hookimpl,
    verify_dkim,
)

# Best first: one good signature is enough (RFC 6376 §6.1).
ORDER = ("pass", "temperror", "policy", "neutral", "fail", "permerror")


class DkimOptions(Options):
    """Options of the check."""

    limit: int = Field(default=10, ge=1, le=50, description="signatures checked, from the top")
    max_size: int = Field(default=50_000_000, ge=0, description="octets beyond which a message is not checked")


@hookimpl
def describe() -> PluginInfo:
    return PluginInfo(
        "dkim",
        summary="Does a domain's signature cover the message, and does it still fit?",
        words={
            "pass": "accept",
            "fail": "score 1",
            "policy": "score 0.5",
            "neutral": "accept",
            "none": "accept",
            "permerror": "score 0.5",
            "temperror": "accept",
        },
        options=DkimOptions,
        network=True,
        repeatable=True,
    )


@hookimpl
def check_message(ctx: Context[DkimOptions], session: Session, envelope: Envelope, message: Message) -> Finding | None:
    if session.authenticated:
        return None
    if len(message) > ctx.options.max_size:
        return Finding("none", "the message is too large to check its signatures")
    results = verify_dkim(message, ctx.dns, now=ctx.now(), limit=ctx.options.limit, timeout=ctx.deadline)
    if not results:
        return Finding("none", "the message is not signed", auth=(AuthResult("dkim", "none"),))
    return _finding(results)


def _finding(results: list[SignatureResult]) -> Finding:
    best = min(results, key=lambda r: ORDER.index(r.result))
    return Finding(
        best.result,
        reason=_reason(best),
        detail="; ".join(f"{r.domain}/{r.selector}: {r.result} {r.reason}".strip() for r in results),
        auth=tuple(_auth(r) for r in results),
        facts={
            "passed": [r.domain for r in results if r.result == "pass"],
            "domains": [r.domain for r in results],
        },
    )


def _reason(result: SignatureResult) -> str:
    who = result.domain or "an unnamed domain"
    if result.result == "pass":
        return f"signed by {who}, unchanged since"
    return f"the signature of {who} does not count: {result.reason}"


def _auth(result: SignatureResult) -> AuthResult:
    values = (
        ("header", "d", result.domain),
        ("header", "s", result.selector),
        ("header", "a", result.algorithm),
        ("header", "b", result.b),
    )
    properties = tuple(p for p in values if p[2])
    return AuthResult("dkim", result.result, "" if result.result == "pass" else result.reason, properties)
