"""iprev: does the client's address have a name that leads back to it? (RFC 8601 §2.7.3)"""

from __future__ import annotations

from mailguard.plugin import (
    AuthResult,
    Context,
    DnsTemporaryError,
    Finding,
    PluginInfo,
    Session,
    hookimpl,
    reverse_name,
)

PTR_LIMIT = 5


@hookimpl
def describe() -> PluginInfo:
    return PluginInfo(
        "iprev",
        summary="Does the client's address have a host name that resolves back to it?",
        words={"pass": "accept", "fail": "score 1", "permerror": "score 0.5", "temperror": "accept"},
        network=True,
        repeatable=True,
    )


@hookimpl
def check_client(ctx: Context, session: Session) -> Finding | None:
    if session.authenticated:
        return None
    ip = session.peer_ip
    try:
        names = ctx.dns.query(reverse_name(ip), "PTR").records[:PTR_LIMIT]
        if not names:
            return _finding("permerror", ip, f"{ip} has no host name")
        rdtype = "AAAA" if ":" in ip else "A"
        for name in names:
            if ip in ctx.dns.query(name, rdtype).records:
                return _finding("pass", ip, f"{ip} is {name}", name.lower())
    except DnsTemporaryError as error:
        return _finding("temperror", ip, f"the host name of {ip} cannot be looked up now", detail=str(error))
    return _finding("fail", ip, f"{ip} calls itself {names[0]}, which is another address")


def _finding(word: str, ip: str, reason: str, name: str = "", detail: str = "") -> Finding:
    auth = AuthResult("iprev", word, properties=(("policy", "iprev", ip),))
    return Finding(word, reason, detail, auth=(auth,), facts={"name": name})
