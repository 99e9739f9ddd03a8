"""ARC: forwarders seal what they saw before they changed a message; is the chain whole, and do we trust its links?
(RFC 8617)"""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from mailguard.plugin import (
    ArcResult,
    ArcSet,
    AuthResult,
    Context,
    Envelope,
    Finding,
    Message,
    Options,
    PluginInfo,
    Session,
    author_domains,
    hookimpl,
    verify_arc,
)

_COMMENT = re.compile(r"\((?:[^()\\]|\\.)*\)")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


class ArcOptions(Options):
    """Options of the check."""

    trusted: tuple[str, ...] = Field(
        default=(), description="domains (and those below) whose seals are believed: your forwarders and mailing lists"
    )
    max_size: int = Field(default=50_000_000, ge=0, description="octets beyond which a message is not checked")

    @field_validator("trusted")
    @classmethod
    def _domains(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not re.fullmatch(r"[\w-]+(\.[\w-]+)+", name):
                raise ValueError(f'"{name}" is no domain')
        return tuple(name.lower() for name in names)


@hookimpl
def describe() -> PluginInfo:
    return PluginInfo(
        "arc",
        summary="Did a trusted forwarder see the message authenticated before it changed it?",
        words={"trusted": "accept", "pass": "accept", "fail": "accept", "temperror": "accept"},
        options=ArcOptions,
        network=True,
        repeatable=True,
        explain={
            "trusted": "the chain is whole, and a forwarder on the list of trusted ones saw DMARC pass for this author",
            "pass": "the chain is whole, but nobody trusted on it saw DMARC pass: it means nothing",
            "fail": "the chain is broken, which happens to honest mail too: it is as if there were none",
        },
    )


@hookimpl
def check_message(ctx: Context[ArcOptions], session: Session, envelope: Envelope, message: Message) -> Finding | None:
    if session.authenticated or len(message) > ctx.options.max_size:
        return None
    result = verify_arc(message, ctx.dns, now=ctx.now(), timeout=ctx.deadline)
    if result.result == "none":
        return None
    sealer = vouching(result, ctx.options.trusted, author_domain(message)) if result.result == "pass" else ""
    word = "trusted" if sealer else result.result
    return Finding(
        word,
        _reason(word, sealer, result),
        auth=(_auth(result, session),),
        facts={"sealers": [s.domain for s in result.sets], "by": sealer, "from_domain": author_domain(message)},
    )


def author_domain(message: Message) -> str:
    """The one domain of From in lower case, ``""`` where there is none or more than one."""
    found = author_domains(message)
    return found.pop() if len(found) == 1 else ""


def vouching(result: ArcResult, trusted: tuple[str, ...], author: str) -> str:
    """The trusted sealer that saw DMARC pass for this author, ``""`` if there is none.

    Read from the newest set backwards, and no further than the first sealer that is not trusted: whoever handled
    the message after an older seal could have changed everything below its own.
    """
    for sealed in result.sets:
        if not any(sealed.domain == name or sealed.domain.endswith(f".{name}") for name in trusted):
            return ""
        if author and _saw_pass(sealed, author):
            return sealed.domain
    return ""


def _saw_pass(sealed: ArcSet, author: str) -> bool:
    """Whether the results of a set hold ``dmarc=pass`` for the author domain (RFC 8601 §2.2, RFC 8617 §4.1.1)."""
    text = _QUOTED.sub(lambda m: m[1].replace(";", " "), sealed.results)
    while (bare := _COMMENT.sub(" ", text)) != text:
        text = bare
    for part in text.split(";"):
        words = re.sub(r"\s*([=.])\s*", r"\1", part).lower().split()
        if words and words[0] == "dmarc=pass" and f"header.from={author}" in words[1:]:
            return True
    return False


def _reason(word: str, sealer: str, result: ArcResult) -> str:
    if word == "trusted":
        return f"{sealer}, which we trust, saw the author's domain confirmed before it forwarded the message"
    return {
        "pass": "forwarded with a whole ARC chain, but by nobody we trust with this",
        "temperror": "the ARC chain cannot be checked now",
        "fail": f"the ARC chain is broken: {result.reason}",
    }[word]


def _auth(result: ArcResult, session: Session) -> AuthResult:
    properties = [("smtp", "remote-ip", session.peer_ip)]
    if result.result == "pass":
        properties.append(("header", "oldest-pass", str(result.oldest_pass)))
    return AuthResult("arc", result.result, "" if result.result == "pass" else result.reason, tuple(properties))
