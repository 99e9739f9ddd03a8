"""answerable: does the sender's domain take mail? (RFC 5321 §5.1, RFC 7505)"""

from __future__ import annotations

from mailguard.plugin import (
    Context,
    DnsTemporaryError,
    Envelope,
    Finding,
    PluginInfo,
    Session,
    hookimpl,
)


@hookimpl
def describe() -> PluginInfo:
    return PluginInfo(
        "answerable",
        summary="Does the sender's domain take mail, so that an answer or a bounce would arrive?",
        words={"ok": "accept", "null_mx": "reject", "none": "score 1", "temperror": "accept"},
        explain={
            "ok": "it has an MX or an address",
            "null_mx": "it says that it takes no mail (RFC 7505)",
            "none": "there is no such domain, or it has neither MX nor address",
            "temperror": "the DNS gave no answer",
        },
        network=True,
        repeatable=True,
    )


@hookimpl
def check_sender(ctx: Context, session: Session, envelope: Envelope) -> Finding | None:
    domain = envelope.mail_from.domain if envelope.mail_from else ""
    if session.authenticated or not domain or domain.startswith("[") or domain in ctx.local_domains:
        return None
    try:
        return _look(ctx, domain)
    except DnsTemporaryError as error:
        return Finding("temperror", f"whether {domain} takes mail cannot be looked up now", detail=str(error))


def _look(ctx: Context, domain: str) -> Finding:
    hosts = [record.split()[-1].rstrip(".") for record in ctx.dns.query(domain, "MX").records]
    if hosts == [""]:
        return Finding("null_mx", f"{domain} takes no mail, so nobody there sends any (null MX)")
    if any(hosts) or any(ctx.dns.query(domain, rdtype).records for rdtype in ("A", "AAAA")):
        return Finding("ok", f"{domain} takes mail")
    return Finding("none", f"{domain} has neither an MX nor an address: no answer could reach it")
