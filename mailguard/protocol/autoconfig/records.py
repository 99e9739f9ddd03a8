"""The DNS records that a domain needs, as a list made from its configuration (RFC 6186, 7208, 7505, 8314, 8461...)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mailguard.protocol.autoconfig import pacc
from mailguard.protocol.autoconfig.request import Provider, Security


@dataclass(frozen=True, slots=True)
class Record:
    """One record: ``name`` is absolute without its last dot, ``data`` in the form of ``net.resolver.Answer`` (TXT
    unquoted). ``why`` says in a few words what it is for; ``optional`` that mail works without it, ``ahead`` that it
    is needed only later, beside another one of its name and type."""

    name: str
    type: str
    data: str
    why: str
    optional: bool = False
    ahead: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What the records are made of.

    ``addresses`` are the server's public addresses, ``dkim`` pairs of selector and the record's text, ``sts_id``
    the id of the MTA-STS policy (``""``: none is published), ``tlsa`` the SHA-256 of the key in hex for zones with
    DNSSEC, ``tlsa_next`` that of the key to follow, ``acme_account`` the account's URL for CAA, ``issuer`` the CA's
    name in CAA (``""``: no CAA), and ``reports_to`` who gets reports: local parts for DMARC and for TLS.
    """

    provider: Provider
    addresses: Sequence[str] = ()
    dkim: Sequence[tuple[str, str]] = ()
    sts_id: str = ""
    tlsa: str = ""
    tlsa_next: str = ""
    acme_account: str = ""
    issuer: str = "letsencrypt.org"
    dmarc: str = "none"
    reports_to: tuple[str, str] = ("dmarc", "tlsrpt")
    pacc: bool = False


def records(plan: Plan) -> list[Record]:
    """Every record to publish, in the order to read them."""
    return [*_host(plan), *_mail(plan), *_reports(plan), *_setup(plan), *_certificates(plan)]


def _host(plan: Plan) -> Iterator[Record]:
    host = plan.provider.hostname
    for text in plan.addresses:
        address = ipaddress.ip_address(text)
        yield Record(host, "AAAA" if address.version == 6 else "A", str(address), "where the server is")
    for text in plan.addresses:
        address = ipaddress.ip_address(text)
        yield Record(address.reverse_pointer, "PTR", host, "set by whoever gave you the address; others refuse without")


def _mail(plan: Plan) -> Iterator[Record]:
    domain, host = plan.provider.domain, plan.provider.hostname
    yield Record(domain, "MX", f"10 {host}", "mail for the domain comes here")
    yield Record(domain, "TXT", "v=spf1 mx -all", "who may send for the domain (one SPF record only)")
    if host != domain:
        yield Record(host, "TXT", "v=spf1 a -all", "the same for bounces, which name the server")
    for selector, text in plan.dkim:
        yield Record(f"{selector}._domainkey.{domain}", "TXT", text, "the key that our signatures are checked with")
    policy = f"v=DMARC1; p={plan.dmarc}; rua=mailto:{plan.reports_to[0]}@{domain}"
    yield Record(f"_dmarc.{domain}", "TXT", policy, "what to do with forgeries; `quarantine` or `reject` once sure")


def _reports(plan: Plan) -> Iterator[Record]:
    domain, host = plan.provider.domain, plan.provider.hostname
    if plan.sts_id:
        yield Record(f"_mta-sts.{domain}", "TXT", f"v=STSv1; id={plan.sts_id}", "others must use TLS to us", True)
        yield Record(f"mta-sts.{domain}", "CNAME", host, "where that policy is served", True)
    text = f"v=TLSRPTv1; rua=mailto:{plan.reports_to[1]}@{domain}"
    yield Record(f"_smtp._tls.{domain}", "TXT", text, "reports on TLS to us", True)
    if plan.tlsa:
        yield Record(f"_25._tcp.{host}", "TLSA", f"3 1 1 {plan.tlsa}", "our key; only in a zone with DNSSEC", True)
        if plan.tlsa_next:
            text = "our next key: publish it two days before the change"
            yield Record(f"_25._tcp.{host}", "TLSA", f"3 1 1 {plan.tlsa_next}", text, True, ahead=True)


def _setup(plan: Plan) -> Iterator[Record]:
    provider = plan.provider
    domain, host = provider.domain, provider.hostname
    yield Record(f"autoconfig.{domain}", "CNAME", host, "Thunderbird and others set themselves up", True)
    yield Record(f"autodiscover.{domain}", "CNAME", host, "Outlook sets itself up", True)
    web_port = provider.web.rpartition(":")[2] if provider.web.count(":") == 2 else "443"
    yield Record(
        f"_autodiscover._tcp.{domain}", "SRV", f"0 0 {web_port} {host}", "Outlook, where the CNAME fails", True
    )
    yield from _services(provider)
    if plan.pacc:
        yield Record(f"ua-auto-config.{domain}", "CNAME", host, "PACC set-up", True)
        text = pacc.digest_record(pacc.configuration(provider))
        yield Record(f"_ua-auto-config.{domain}", "TXT", text, "digest of the PACC document", True)


def _services(provider: Provider) -> Iterator[Record]:
    ports = {(s.protocol, s.security): s.port for s in provider.services}
    for name, protocol, security, priority in (
        ("imaps", "imap", Security.IMPLICIT, 0),
        ("imap", "imap", Security.STARTTLS, 0),
        ("pop3s", "pop3", Security.IMPLICIT, 10),
        ("pop3", "pop3", Security.STARTTLS, 10),
        ("submissions", "smtp", Security.IMPLICIT, 0),
        ("submission", "smtp", Security.STARTTLS, 10),
    ):
        # Plain imap and pop3 are said not to exist: implicit TLS is better, and clients take what they see first.
        offered = name not in ("imap", "pop3") or (protocol, Security.IMPLICIT) not in ports
        port = ports.get((protocol, security)) if offered else None
        data = f"{priority} 1 {port} {provider.hostname}" if port else "0 0 0 ."
        yield Record(
            f"_{name}._tcp.{provider.domain}", "SRV", data, f"{name} for clients" if port else "not offered", True
        )


def _certificates(plan: Plan) -> Iterator[Record]:
    domain = plan.provider.domain
    if not plan.issuer:
        return
    issue = f'0 issue "{plan.issuer}'
    if plan.acme_account:
        issue += f"; accounturi={plan.acme_account}; validationmethods=http-01"
    yield Record(domain, "CAA", issue + '"', "who may issue certificates for the domain", True)
    yield Record(domain, "CAA", f'0 iodef "mailto:hostmaster@{domain}"', "where to tell of attempts", True)


def certificate_names(provider: Provider, *, sts: bool, with_pacc: bool) -> list[str]:
    """The host names that a certificate must cover for this domain, the server's own first."""
    prefixes = ["autoconfig", "autodiscover", *(["mta-sts"] if sts else []), *(["ua-auto-config"] if with_pacc else [])]
    return [provider.hostname, *(f"{prefix}.{provider.domain}" for prefix in prefixes)]


def zone_line(record: Record) -> str:
    """The record as a line of a zone file; long texts are split into strings of 255 octets (RFC 1035 §3.3.14)."""
    return f"{record.name + '.':<44} IN {record.type:<6} {zone_data(record)}"


def zone_data(record: Record) -> str:
    """The record's data as a zone file has it."""
    if record.type == "TXT":
        text = record.data.replace("\\", "\\\\").replace('"', '\\"')
        return " ".join(f'"{text[at : at + 255]}"' for at in range(0, len(text), 255))
    if record.type in ("MX", "CNAME", "PTR", "SRV"):
        return record.data if record.data.endswith(".") else record.data + "."
    return record.data


def nsupdate_lines(recs: Sequence[Record], zones: Sequence[str] = (), ttl: int = 3600) -> list[str]:
    """The records as commands for nsupdate: each set of a name and type is replaced as a whole.

    One update cannot span zones (RFC 2136 §3.1.1), so there is one for each of ``zones`` and one for the rest.
    """
    lines: list[str] = []
    seen: set[tuple[str, str]] = set()
    by_zone: dict[str, list[Record]] = {}
    for record in recs:
        if record.type != "PTR":  # lies in another zone, mostly another's
            within = [zone for zone in zones if record.name == zone or record.name.endswith("." + zone)]
            by_zone.setdefault(max(within, key=len, default=""), []).append(record)
    for group in by_zone.values():
        for record in group:
            if (record.name, record.type) not in seen:
                lines.append(f"update delete {record.name}. {record.type}")
                seen.add((record.name, record.type))
            lines.append(f"update add {record.name}. {ttl} {record.type} {zone_data(record)}")
        lines.append("send")
    return lines
