"""What an installation has to publish: its configuration, keys and certificates made into plans for the DNS."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator, Mapping, Sequence

from mailguard.config.schema import Config
from mailguard.delivery.dkimkey import DkimKeyError, DkimKeys
from mailguard.delivery.dnscheck import DEADLINE, BoundResolver, Checked, check
from mailguard.delivery.dnsquestions import Office, questions
from mailguard.model.address import Address, AddressError
from mailguard.net.acme import Acme
from mailguard.net.authority import Authority
from mailguard.net.resolver import DnsResolver, DnsTemporaryError, Resolver, addresses
from mailguard.net.tls import Certificate, TlsContexts, TlsError, client_context, key_digest, private_key_digest
from mailguard.protocol.autoconfig.records import Plan
from mailguard.protocol.autoconfig.request import Provider
from mailguard.server.web_provider import mta_sts_id, mta_sts_policy, providers

NEXT_KEY = "next-key.pem"  # beside the certificate from the CA


def hosted(config: Config) -> Mapping[str, Provider]:
    """The provider of each of our domains."""
    main = config.main
    return providers(main.hostname, main.listener, config.directory, main.web)


def public_addresses(config: Config, resolver: Resolver, given: Sequence[str] = ()) -> tuple[str, ...]:
    """Our public addresses: those given, those of ``[dns_check]``, or what the host name resolves to now."""
    told = given or config.main.dns_check.addresses
    if told:
        return tuple(str(ipaddress.ip_address(text)) for text in told)
    try:
        return tuple(addresses(resolver, config.main.hostname))
    except DnsTemporaryError:
        return ()


def plans(config: Config, public: Sequence[str], names: Sequence[str] = ()) -> list[Plan]:
    """A plan for each domain in ``names`` (default: all of ours)."""
    main, known = config.main, hosted(config)
    certificate = certificate_of(config)
    acme = Acme(main.acme, config.issued.parent, config.data_dir / "challenges") if config.issued else None
    signed = certificate is not None and not certificate.self_signed
    sts = "" if main.web.mta_sts == "none" else mta_sts_id(main.web, main.hostname)
    return [
        Plan(
            known[name],
            addresses=public,
            dkim=tuple(dkim_records(config, name)),
            sts_id=sts,
            tlsa=key_digest(certificate) if certificate and signed else "",
            tlsa_next=_next_key(config),
            acme_account=acme.account_url if acme else "",
            issuer=main.acme.caa if main.acme.enabled else "",
            pacc=main.web.pacc,
            reports_to=(_report_box(config, "dmarc", name), _report_box(config, "tlsrpt", name)),
        )
        for name in names or known
    ]


def dkim_records(config: Config, domain: str) -> Iterator[tuple[str, str]]:
    """Selector and TXT record of each signing key of the domain."""
    keys = DkimKeys(config.data_dir / "dkim")
    with contextlib.suppress(DkimKeyError):  # `mailguard dkim list` and the log say what is wrong with it
        yield from keys.records(domain)


def office(config: Config, resolver: Resolver, names: Sequence[str] = (), given: Sequence[str] = ()) -> Office:
    """All that ``delivery.dnsquestions`` asks about."""
    main = config.main
    public = public_addresses(config, resolver, given)
    contexts = tls_contexts(config)
    return Office(
        main.hostname,
        plans(config, public, names),
        public,
        main.dns_check,
        lambda name: contexts.certificate_for(name) if contexts else None,
        lambda address: deliverable(config, address),
        client_context(ca_file=main.relay.ca_file),
        sts=b"" if main.web.mta_sts == "none" else mta_sts_policy(main.web, main.hostname),
        port=main.relay.port,
    )


def look(config: Config, names: Sequence[str] = (), given: Sequence[str] = ()) -> list[Checked]:
    """All that the DNS and the world around tell about these domains (default: all of ours), within one deadline."""
    resolver = BoundResolver(DnsResolver(config.main.dns), DEADLINE)
    port = config.main.dns_check.port
    authority = Authority(resolver, port=port) if port else None
    return check(resolver, questions(office(config, resolver, names, given), authority))


def tls_contexts(config: Config) -> TlsContexts | None:
    """The certificates in use, None where they cannot be."""
    try:
        return TlsContexts(config.main.tls, config.base, issued=config.issued)
    except TlsError:
        return None


def certificate_of(config: Config) -> Certificate | None:
    """The certificate that is shown under our host name."""
    contexts = tls_contexts(config)
    return contexts.certificate_for(config.main.hostname) if contexts else None


def _next_key(config: Config) -> str:
    """The digest of the key that is to follow, ``""`` where none is prepared."""
    path = config.issued.with_name(NEXT_KEY) if config.issued else None
    return private_key_digest(path.read_bytes()) if path and path.exists() else ""


def deliverable(config: Config, address: str) -> bool:
    """Whether mail for an address has somewhere to go; addresses of others count as theirs to know."""
    try:
        parsed = Address.parse(address)
    except AddressError:
        return False
    if not config.directory.is_local(parsed.domain):
        return True
    found = config.directory.resolve(parsed)
    return bool(found.accounts or found.remote)


def _report_box(config: Config, local: str, domain: str) -> str:
    return local if deliverable(config, f"{local}@{domain}") else "postmaster"
