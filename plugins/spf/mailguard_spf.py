"""SPF: may this host send for this domain? (RFC 7208, evaluated by pyspf over mailguard's resolver.)"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import spf
from pydantic import Field

from mailguard.plugin import (
    AuthResult,
    Context,
    DnsTemporaryError,
    Envelope,
    Finding,
    Options,
    PluginInfo,
    Session,
    hookimpl,
)

VOID_LIMIT = 2  # RFC 7208 §4.6.4
CNAME_LIMIT = 10


class SpfOptions(Options):
    """Options of the check."""

    check_helo: bool = Field(default=True, description="also check the EHLO name (RFC 7208 §2.3)")
    timeout: float = Field(default=20.0, gt=0, le=60, description="seconds all look-ups of one check may take")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The outcome of one SPF check: a word of RFC 7208 §2.6 and its explanation."""

    word: str
    explanation: str
    identity: str
    domain: str


class _Query(spf.query):  # type: ignore[misc]
    """pyspf's evaluation, asking our resolver instead of the network."""

    def __init__(self, resolver: Any, budget: float, **kwargs: Any) -> None:
        super().__init__(querytime=budget, **kwargs)
        self._resolver = resolver

    def dns(self, name: str, qtype: str, cnames: Any = None, ignore_void: bool = False) -> list[Any]:
        name = str(name).rstrip(".").lower()
        if not all(0 < len(label) < 64 for label in name.split(".")):
            return []
        if qtype == "SPF":  # the record type was withdrawn (RFC 7208 §3.1)
            return []
        found = self.cache.get((name, qtype))
        if found is None:
            found = self.cache[name, qtype] = self._ask(name, qtype)
        if not found and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > VOID_LIMIT:
                raise spf.PermError(f"Void lookup limit of {VOID_LIMIT} exceeded")
        return list(found)

    def _ask(self, name: str, qtype: str) -> list[Any]:
        try:
            records = self._resolver.query(name, qtype, timeout=self.timeout).records
        except DnsTemporaryError as error:
            raise spf.TempError(f"DNS {error}") from error
        if qtype == "TXT":
            return [(text.encode("utf-8", "surrogateescape"),) for text in records]
        if qtype == "MX":
            return [(int(pref), host) for pref, _, host in (text.partition(" ") for text in records)]
        return list(records)


def evaluate(resolver: Any, *, ip: str, mail_from: str, helo: str, receiver: str, timeout: float = 20.0) -> Evaluation:
    """Checks one identity: ``mail_from``, or the EHLO name where it is empty (RFC 7208 §2.4)."""
    query = _Query(resolver, timeout, i=ip, s=mail_from, h=helo, receiver=receiver, strict=True)
    word, _, explanation = query.check()
    return Evaluation(word, explanation, query.ident, query.o)


@hookimpl
def describe() -> PluginInfo:
    return PluginInfo(
        "spf",
        summary="Is the client allowed to send for the domain in MAIL FROM (and in EHLO)?",
        words={
            "pass": "accept",
            "fail": "score 4",
            "softfail": "score 1.5",
            "neutral": "accept",
            "none": "accept",
            "permerror": "score 1",
            "temperror": "accept",
        },
        options=SpfOptions,
        network=True,
        repeatable=True,
    )


@hookimpl
def check_sender(ctx: Context[SpfOptions], session: Session, envelope: Envelope) -> Finding | None:
    if session.authenticated:
        return None
    helo = session.helo if "." in session.helo and not session.helo.startswith("[") else ""
    results = []
    if helo and ctx.options.check_helo:
        results.append(_evaluate(ctx, session, "", helo))
    if envelope.mail_from:
        results.append(_evaluate(ctx, session, envelope.reverse_path, helo or "unknown"))
    return _finding(results, session) if results else Finding("none", "no domain to check")


def _evaluate(ctx: Context[SpfOptions], session: Session, mail_from: str, helo: str) -> Evaluation:
    return evaluate(
        ctx.dns,
        ip=session.peer_ip,
        mail_from=mail_from,
        helo=helo,
        receiver=ctx.hostname,
        timeout=ctx.options.timeout,
    )


def _finding(results: list[Evaluation], session: Session) -> Finding:
    last = results[-1]  # MAIL FROM, or EHLO for the null reverse path
    return Finding(
        last.word,
        reason=_reason(last, session.peer_ip),
        detail=last.explanation,
        auth=tuple(_auth(result) for result in results),
        facts={"identity": last.identity, "domain": last.domain, "helo": results[0].word},
    )


def _auth(result: Evaluation) -> AuthResult:
    name = "mailfrom" if result.identity == "mailfrom" else "helo"
    return AuthResult("spf", result.word, properties=(("smtp", name, result.domain),))


def _reason(result: Evaluation, ip: str) -> str:
    domain = result.domain
    return {
        "pass": f"{domain} lets {ip} send its mail",
        "fail": f"{domain} does not let {ip} send its mail",
        "softfail": f"{domain} doubts that {ip} sends its mail",
        "neutral": f"{domain} says nothing about {ip}",
        "none": f"{domain} publishes no SPF record",
        "permerror": f"the SPF record of {domain} is broken: {result.explanation}",
        "temperror": f"the SPF record of {domain} cannot be fetched now",
    }.get(result.word, result.explanation)
