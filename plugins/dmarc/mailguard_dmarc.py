"""DMARC: is the domain that people see in From: the one that SPF or DKIM vouches for, and what does its owner ask
us to do if not? (RFC 9989; the organisational domain by tree walk, no public suffix list.)"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mailguard.plugin import (
    AuthResult,
    Context,
    DnsTemporaryError,
    Envelope,
    Finding,
    Findings,
    Message,
    PluginInfo,
    Resolver,
    Session,
    author_domains,
    dmarc_record,
    dmarc_walk,
    hookimpl,
    organisational_domain,
)

POLICIES = ("none", "quarantine", "reject")


@hookimpl
def describe() -> PluginInfo:
    return PluginInfo(
        "dmarc",
        summary="Is the From domain authenticated, and what does its owner ask for if not?",
        words={
            "pass": "accept",
            "forwarded": "accept",
            "none": "accept",
            "fail": "score 1",  # the owner only watches (p=none)
            "quarantine": "junk",
            "reject": "reject",
            "permerror": "score 1",  # no From, or several
            "temperror": "accept",
        },
        after=("spf", "dkim", "arc"),
        network=True,
        repeatable=True,
        explain={
            "forwarded": "no longer authenticated, but a forwarder we trust saw that it was (see the check arc)",
            "fail": "the From domain is not authenticated; its owner only watches",
            "quarantine": "the From domain is not authenticated; its owner asks to set such mail aside",
            "reject": "the From domain is not authenticated; its owner asks to refuse such mail",
        },
    )


@hookimpl
def check_message(
    ctx: Context, session: Session, envelope: Envelope, message: Message, findings: Findings
) -> Finding | None:
    if session.authenticated:
        return None
    domains = author_domains(message)
    if len(domains) != 1:
        count = "no" if not domains else "more than one"
        return Finding("permerror", f"the message has {count} From domain", auth=(AuthResult("dmarc", "permerror"),))
    try:
        return _evaluate(ctx, domains.pop(), envelope, findings)
    except DnsTemporaryError as error:
        auth = AuthResult("dmarc", "temperror")
        return Finding("temperror", "the sender's DMARC record cannot be fetched now", str(error), auth=(auth,))


def _evaluate(ctx: Context, author: str, envelope: Envelope, findings: Findings) -> Finding:
    policy = find_policy(ctx.dns, author)
    if policy is None:
        return _finding("none", author, f"{author} publishes no DMARC policy", None)
    passed = _aligned(ctx, author, policy, envelope, findings)
    if passed:
        return _finding("pass", author, f"{author} is confirmed by {passed}", policy)
    arc = findings.get("arc")
    if arc and arc.word == "trusted" and arc.facts.get("from_domain") == author:
        return _finding(
            "forwarded", author, f"{author} was confirmed before {arc.facts.get('by')} forwarded it", policy
        )
    if any(findings.word(check) == "temperror" for check in ("spf", "dkim")):
        return _finding("temperror", author, f"whether {author} sent this cannot be checked now", policy)
    word = {"none": "fail"}.get(policy.action, policy.action)
    return _finding(word, author, f"{author} did not authenticate this message and asks for: {policy.action}", policy)


def _aligned(ctx: Context, author: str, policy: Policy, envelope: Envelope, findings: Findings) -> str:
    """Which of SPF and DKIM passed for a domain in alignment, as text; ``""`` if none did (RFC 9989 §4.4)."""
    spf = findings.get("spf")
    if spf and spf.word == "pass":
        # An EHLO pass counts for the null reverse path only.
        domain = envelope.mail_from.domain if envelope.mail_from else str(spf.facts.get("domain", ""))
        if _same(ctx, author, domain, strict=policy.strict_spf):
            return f"SPF for {domain}"
    dkim = findings.get("dkim")
    for domain in dkim.facts.get("passed", ()) if dkim else ():
        if _same(ctx, author, domain, strict=policy.strict_dkim):
            return f"the DKIM signature of {domain}"
    return ""


def _same(ctx: Context, author: str, domain: str, *, strict: bool) -> bool:
    if domain == author:
        return True
    if strict or not domain or domain.split(".")[-1] != author.split(".")[-1]:
        return False
    return organisational_domain(ctx.dns, domain) == organisational_domain(ctx.dns, author)


def _finding(word: str, author: str, reason: str, policy: Policy | None) -> Finding:
    result = "fail" if word in ("quarantine", "reject", "forwarded") else word
    properties = [("header", "from", author)]
    if policy:
        properties.append(("policy", "dmarc", policy.action))
    reason_shown = reason if word == "forwarded" else ""
    auth = AuthResult("dmarc", result, reason_shown, properties=tuple(properties))
    facts = {"from_domain": author, "policy": policy.action if policy else "", "record_at": policy.at if policy else ""}
    return Finding(word, reason, auth=(auth,), facts=facts)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a domain's owner asks for: ``action`` is ``none quarantine reject``, ``at`` the domain whose record says
    so, the flags whether SPF and DKIM domains must be exactly the author's."""

    action: str
    at: str
    strict_spf: bool
    strict_dkim: bool


def find_policy(resolver: Resolver, author: str) -> Policy | None:
    """The policy for an author domain, None if there is none to apply. Raises DnsTemporaryError."""
    record = dmarc_record(resolver, author)
    at = author
    if record is None:
        at = organisational_domain(resolver, author)
        record = dmarc_record(resolver, at) if at != author else None
        if record is None:
            record, at = _suffix_record(resolver, author)
    if record is None:
        return None
    action = _action(resolver, record, author, inherited=at != author)
    if action is None:
        return None
    return Policy(action, at, record.get("aspf", "r").lower() == "s", record.get("adkim", "r").lower() == "s")


def _suffix_record(resolver: Resolver, author: str) -> tuple[dict[str, str] | None, str]:
    """A public suffix's own record speaks for those below it that say nothing (``psd=y``)."""
    for name in dmarc_walk(author):
        record = dmarc_record(resolver, name)
        if record is not None and record.get("psd") == "y":
            return record, name
    return None, author


def _action(resolver: Resolver, record: Mapping[str, str], author: str, *, inherited: bool) -> str | None:
    wanted = record.get("p", "none" if "rua" in record else "")
    if inherited:
        wanted = record.get("sp", wanted)
        if "np" in record and not resolver.query(author, "A").exists:
            wanted = record["np"]
    wanted = wanted.lower()
    if wanted not in POLICIES:
        # A broken policy with a report address means the owner wants to watch (RFC 9989 §4.7).
        return "none" if "rua" in record else None
    if record.get("t", "n").lower() == "y" and wanted != "none":
        return POLICIES[POLICIES.index(wanted) - 1]
    return wanted
