"""All that is asked about an office: every record of every domain, and whether it fits together."""

from __future__ import annotations

import datetime
import functools
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mailguard.delivery import dnsprobe, dnsweb
from mailguard.delivery.dnscheck import Checked, Question, State
from mailguard.delivery.dnscheck_settings import DnsCheckSettings
from mailguard.delivery.dnsjudge import compare, judge
from mailguard.net.authority import Authority, answers_of
from mailguard.net.resolver import Resolver, addresses
from mailguard.protocol.autoconfig.records import Plan, Record, certificate_names, records


@dataclass(frozen=True, slots=True)
class Office:
    """What the questions are about.

    ``plans`` has one plan for each domain; ``addresses`` are our public ones; ``deliverable`` says whether an
    address takes mail; ``sts`` is the policy we serve, ``b""`` if none; ``port`` is that of other mail servers.
    """

    hostname: str
    plans: Sequence[Plan]
    addresses: Sequence[str]
    settings: DnsCheckSettings
    certificate_for: dnsweb.CertificateFor
    deliverable: Callable[[str], bool]
    context: ssl.SSLContext
    sts: bytes = b""
    port: int = 25
    now: Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.UTC)


def questions(office: Office, authority: Authority | None) -> list[Question]:
    """Everything to ask, in the order to read the answers; without ``authority`` no server is asked directly."""
    wanted = dict.fromkeys(record for plan in office.plans for record in records(plan))
    found = [_record(record, office, authority) for record in wanted]
    found += [*_about_addresses(office), *_about_ports(office)]
    for plan in office.plans:
        found += _about_domain(plan, office, authority)
    return found


def _record(record: Record, office: Office, authority: Authority | None) -> Question:
    def ask(resolver: Resolver) -> Checked:
        found = resolver.query(record.name, record.type).records
        if record.type == "CNAME" and not found and _same_host(resolver, record):
            return Checked(subject, State.OK, ("the same addresses",), "", record.optional, record)
        verdict = judge(record, found, addresses=office.addresses)
        if authority is None or record.type == "PTR":
            return verdict
        own = answers_of(authority, record.name, record.type)
        return compare(verdict, {n: judge(record, a.records, addresses=office.addresses) for n, a in own.items()})

    subject = f"{record.name} {record.type}"
    return Question(subject, ask, record.optional, record)


def _same_host(resolver: Resolver, record: Record) -> bool:
    there = set(addresses(resolver, record.name))
    return bool(there) and there == set(addresses(resolver, record.data))


def _about_addresses(office: Office) -> Iterator[Question]:
    for address in office.addresses:
        ask = functools.partial(dnsprobe.forward_confirmed, address=address, hostname=office.hostname)
        yield Question(f"{address} reverse and forward", ask)
        yield Question(f"{address} is public", functools.partial(dnsprobe.public, address=address), True)
        for zone in office.settings.blocklists:
            on_list = functools.partial(dnsprobe.listed, address=address, zone=zone)
            yield Question(f"{address} on {zone}", on_list, True)


def _about_ports(office: Office) -> Iterator[Question]:
    if office.settings.reach:
        out = functools.partial(dnsprobe.outgoing, domain=office.settings.reach, port=office.port)
        yield Question("port 25 outwards", out, True)
    for address in office.addresses:
        into = functools.partial(dnsprobe.incoming, address=address, hostname=office.hostname)
        yield Question(f"port 25 of {address}", into, True)


def _about_domain(plan: Plan, office: Office, authority: Authority | None) -> Iterator[Question]:
    domain = plan.provider.domain
    yield Question(f"{domain} mail hosts", lambda r: dnsprobe.mx_sane(r, domain, office.addresses))
    yield Question(f"{domain} SPF look-ups", lambda r: dnsprobe.spf_lookups(r, domain))
    for record in (f"_dmarc.{domain}", f"_smtp._tls.{domain}"):
        reports = functools.partial(
            dnsprobe.reports_arrive, record=record, domain=domain, deliverable=office.deliverable
        )
        yield Question(f"{record} address of reports", reports, True)
    names = certificate_names(plan.provider, sts=bool(plan.sts_id), with_pacc=plan.pacc)
    yield Question(
        f"{domain} certificate",
        lambda r: dnsweb.certificate_names(r, domain, names, office.certificate_for, office.now()),
    )
    if office.sts:
        yield Question(
            f"https://mta-sts.{domain}",
            lambda r: dnsweb.sts_policy(r, domain, office.hostname, office.context, expected=office.sts),
            True,
        )
    yield Question(f"https://{domain}", lambda r: dnsweb.bare_domain(r, domain, office.addresses, office.context), True)
    yield Question(f"*.{domain}", lambda r: dnsprobe.wildcard(r, domain), True)
    if authority is not None:
        yield Question(f"{domain} name servers", lambda r: _servers(r, authority, domain), True)


def _servers(_resolver: Resolver, authority: Authority, domain: str) -> Checked:
    """Whether the domain's own servers answer."""
    subject = f"{domain} name servers"
    zone = authority.zone(domain)
    if not zone.servers:
        return Checked(subject, State.MISSING, (), "the domain is not delegated: has it been registered?")
    for hosts in zone.servers.values():
        for address in hosts:
            authority.ask(address, domain, "SOA")
    silent = sorted(h for h, own in zone.servers.items() if not own or all(a in authority.silent for a in own))
    if len(silent) == len(zone.servers):
        cure = "none answers us directly (a firewall here?): only the resolver was asked"
        return Checked(subject, State.UNKNOWN, tuple(silent), cure, optional=True)
    if silent:
        return Checked(subject, State.DIFFERENT, tuple(silent), "these do not answer: look-ups fail at times")
    return Checked(subject, State.OK, tuple(zone.servers))
