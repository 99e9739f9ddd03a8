"""The web side of what is published: certificates, the MTA-STS policy, and what else answers for the domain."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Callable, Sequence

from mailguard.delivery.dnscheck import BoundResolver, Checked, State
from mailguard.delivery.mtasts import StsPolicyError, parse_policy
from mailguard.net.https import HttpsError, fetch
from mailguard.net.resolver import Resolver, addresses
from mailguard.net.tls import Certificate, covers

_FETCH = 1.2  # seconds
_SOON = datetime.timedelta(days=14)
CertificateFor = Callable[[str], Certificate | None]
"""The certificate shown to a client that asks for a host name; None where there is no TLS."""


def certificate_names(
    resolver: Resolver, domain: str, names: Sequence[str], certificate_for: CertificateFor, now: datetime.datetime
) -> Checked:
    """Whether the certificate names every host name that is published, and is good for a while yet."""
    subject = f"{domain} certificate"
    bad: list[str] = []
    for name in names:
        certificate = certificate_for(name)
        if certificate is None:
            return Checked(subject, State.MISSING, (), "set `[tls]` in mailguard.toml, or `[acme] enabled = true`")
        if certificate.self_signed:
            cure = f"{certificate.path} is self-signed, so clients warn: `[acme] enabled = true` gets a real one"
            return Checked(subject, State.DIFFERENT, (str(certificate.path),), cure)
        if certificate.not_after < now + _SOON:
            ended = certificate.not_after < now
            cure = (
                f"{certificate.path} {'has ended' if ended else 'ends'} on {certificate.not_after:%Y-%m-%d}: renew it"
            )
            return Checked(subject, State.DANGEROUS if ended else State.DIFFERENT, (str(certificate.path),), cure)
        if not covers(certificate, name) and addresses(resolver, name):
            bad.append(name)
    if bad:
        cure = "published, but not in the certificate, so clients warn: get one that names them, too"
        return Checked(subject, State.DIFFERENT, tuple(bad), cure)
    return Checked(subject, State.OK, tuple(names))


def sts_policy(
    resolver: Resolver, domain: str, hostname: str, context: ssl.SSLContext, *, expected: bytes, port: int = 443
) -> Checked:
    """Whether others can get our MTA-STS policy, and whether it lets them deliver to us (RFC 8461)."""
    host = f"mta-sts.{domain}"
    subject = f"https://{host}"
    if not resolver.query(f"_mta-sts.{domain}", "TXT").records:
        return Checked(subject, State.OK, ("no record asks for it",), optional=True)
    try:
        document = fetch(
            host, port, "/.well-known/mta-sts.txt", resolver=resolver, context=context, timeout=_time(resolver),
            limit=65_536,
        )  # fmt: skip
        policy = parse_policy(document.body.decode("utf-8", "replace"))
    except (HttpsError, StsPolicyError) as error:
        cure = f"nobody can get the policy ({error}); it does nothing until they can"
        return Checked(subject, State.DIFFERENT, (), " ".join(cure.split())[:240], optional=True)
    if not policy.allows(hostname):
        state = State.DANGEROUS if policy.mode == "enforce" else State.DIFFERENT
        return Checked(subject, state, policy.mx, f"the policy does not name {hostname}: others will not deliver")
    if document.body.split() != expected.split():
        return Checked(subject, State.DIFFERENT, policy.mx, "another policy than ours is served there", optional=True)
    return Checked(subject, State.OK, (policy.mode,), optional=True)


def bare_domain(resolver: Resolver, domain: str, ours: Sequence[str], context: ssl.SSLContext) -> Checked:
    """What the domain's own web site answers to clients that ask it for settings before they ask us."""
    subject = f"https://{domain}"
    there = addresses(resolver, domain)
    if not there or set(there) & set(ours):
        return Checked(subject, State.OK, optional=True)
    path = "/.well-known/autoconfig/mail/config-v1.1.xml"
    try:
        fetch(domain, 443, path, resolver=resolver, context=context, timeout=_time(resolver), limit=65_536)
    except HttpsError as error:
        if "answered 4" in str(error) or "refused" in str(error):
            return Checked(subject, State.OK, (str(error),), optional=True)
        cure = "the web site there keeps clients waiting or fails: it should answer 404 at once"
        return Checked(subject, State.DIFFERENT, (str(error)[:160],), cure, optional=True)
    cure = "the web site there answers for set-up, instead of 404: Thunderbird stops at whatever it says"
    return Checked(subject, State.DIFFERENT, (path,), cure, optional=True)


def _time(resolver: Resolver) -> float:
    left = resolver.left if isinstance(resolver, BoundResolver) else _FETCH
    return max(0.1, min(_FETCH, left - 0.3))
