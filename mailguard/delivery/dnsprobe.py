"""What no single record tells: does it all fit together, and do others get through to us?"""

from __future__ import annotations

import ipaddress
import re
import secrets
from collections.abc import Callable, Sequence

from mailguard.delivery.dnscheck import BoundResolver, Checked, State
from mailguard.delivery.dnsjudge import MAX_LOOKUPS, asks
from mailguard.net.dial import DialError, dial
from mailguard.net.resolver import DnsTemporaryError, Resolver, addresses, reverse_name

_CONNECT = 1.0  # seconds for a connection that is only tried
_LISTED = ipaddress.ip_network("127.0.0.0/8")
_REFUSED = ipaddress.ip_network("127.255.255.0/24")  # the list does not answer our resolver


def forward_confirmed(resolver: Resolver, address: str, hostname: str) -> Checked:
    """Whether the name of an address leads back to it (FCrDNS): many servers refuse mail without."""
    subject = f"{address} reverse and forward"
    names = resolver.query(reverse_name(address), "PTR").records
    if not names:
        return Checked(subject, State.MISSING, (), f"have whoever gave you the address name it {hostname}")
    for name in names:
        if address in map(_canonical, addresses(resolver, name)):
            state = State.OK if name == hostname else State.DIFFERENT
            cure = "" if name == hostname else f"better {hostname}, which is what we say in EHLO"
            return Checked(subject, state, names, cure, optional=True)
    return Checked(subject, State.DANGEROUS, names, f"{names[0]} does not lead back to {address}: many will refuse us")


def public(_resolver: Resolver, address: str) -> Checked:
    """Whether an address can be reached from outside at all."""
    subject = f"{address} is public"
    if ipaddress.ip_address(address).is_global:
        return Checked(subject, State.OK)
    cure = "nobody outside can reach it: publish the router's address, and forward the ports to this machine"
    return Checked(subject, State.DIFFERENT, (address,), cure, optional=True)


def listed(resolver: Resolver, address: str, zone: str) -> Checked:
    """Whether a block list names an address of ours (RFC 5782)."""
    subject = f"{address} on {zone}"
    labels = reverse_name(address).rsplit(".", 2)[0]
    found = resolver.query(f"{labels}.{zone}", "A").records
    hits = [text for text in found if ipaddress.ip_address(text) in _LISTED]
    if any(ipaddress.ip_address(text) in _REFUSED for text in hits):
        cure = "the list does not answer public resolvers: use one of your own to know"
        return Checked(subject, State.UNKNOWN, found, cure, optional=True)
    if not hits:
        return Checked(subject, State.OK)
    try:
        reason = resolver.query(f"{labels}.{zone}", "TXT").records
    except DnsTemporaryError:
        reason = ()
    cure = f"listed: find out why at {zone}, stop it, then ask to be removed"
    return Checked(subject, State.DANGEROUS, (*reason, *found), cure)


def mx_sane(resolver: Resolver, domain: str, ours: Sequence[str]) -> Checked:
    """Whether every MX names a host with addresses, no alias and no address (RFC 5321 §5.1), and whether it is us."""
    subject = f"{domain} mail hosts"
    hosts = [text.split()[-1] for text in resolver.query(domain, "MX").records]
    for host in hosts:
        if re.fullmatch(r"[\d.]+", host) and host != ".":
            return Checked(subject, State.DANGEROUS, (host,), "an MX names a host, never an address")
        alias = resolver.query(host, "CNAME").records
        if alias:
            return Checked(subject, State.DANGEROUS, (host, *alias), f"{host} is an alias: name {alias[0]} itself")
        found = [_canonical(text) for text in addresses(resolver, host)] if host != "." else []
        if not found:
            return Checked(subject, State.DANGEROUS, (host,), f"{host} has no address: mail cannot arrive")
        foreign = sorted(set(found) - set(ours))
        if ours and not set(found) & set(ours):
            return Checked(subject, State.DIFFERENT, tuple(foreign), f"{host} is not this server", optional=True)
    return Checked(subject, State.OK if hosts else State.MISSING, tuple(hosts), "" if hosts else "publish an MX")


def spf_lookups(resolver: Resolver, domain: str) -> Checked:
    """How many questions the domain's SPF record costs with all that it includes (RFC 7208 §4.6.4)."""
    subject = f"{domain} SPF look-ups"
    count = _spf_cost(resolver, domain, 0)
    if count <= MAX_LOOKUPS:
        return Checked(subject, State.OK, (f"{count} of {MAX_LOOKUPS}",))
    cure = "ten are allowed, so SPF fails for everybody: replace some `include` by the ip4 and ip6 it stands for"
    return Checked(subject, State.DANGEROUS, (f"{count} or more",), cure)


def _spf_cost(resolver: Resolver, domain: str, spent: int) -> int:
    texts = [t for t in resolver.query(domain, "TXT").records if t.lower().split()[:1] == ["v=spf1"]]
    for term in texts[0].split()[1:] if len(texts) == 1 else ():
        if asks(term) and spent <= MAX_LOOKUPS:
            spent += 1
            match = re.match(r"[+~?-]?(?:include:|redirect=)([\w.-]+)$", term, re.IGNORECASE)
            if match and spent <= MAX_LOOKUPS:
                spent = _spf_cost(resolver, match[1].lower(), spent)
    return spent


def wildcard(resolver: Resolver, domain: str) -> Checked:
    """Whether every name exists: clients that guess then meet a server that is not meant for them."""
    subject = f"*.{domain}"
    found = addresses(resolver, f"mailguard-{secrets.token_hex(4)}.{domain}")
    if not found:
        return Checked(subject, State.OK)
    cure = "clients guess names such as imap.DOMAIN and meet whatever answers there: name hosts one by one"
    return Checked(subject, State.DIFFERENT, tuple(found), cure, optional=True)


def reports_arrive(resolver: Resolver, record: str, domain: str, deliverable: Callable[[str], bool]) -> Checked:
    """Whether the address for reports in ``_dmarc`` or ``_smtp._tls`` takes mail, and from us (RFC 7489 §7.1)."""
    from mailguard.delivery.dnsjudge import tags

    subject = f"{record} address of reports"
    texts = resolver.query(record, "TXT").records
    wanted = [part for text in texts for part in tags(text).get("rua", "").split(",") if part.startswith("mailto:")]
    for address in (part.removeprefix("mailto:").partition("!")[0] for part in wanted):
        host = address.rpartition("@")[2].lower()
        if not deliverable(address):
            cure = f"reports bounce: add the address, `mailguard user add {address}` or an alias"
            return Checked(subject, State.DIFFERENT, (address,), cure, optional=True)
        outside = host != domain and not host.endswith("." + domain) and record.startswith("_dmarc.")
        if outside and not resolver.query(f"{domain}._report._dmarc.{host}", "TXT").records:
            cure = f'{host} has to publish {domain}._report._dmarc.{host} TXT "v=DMARC1", or no report is sent'
            return Checked(subject, State.DIFFERENT, (address,), cure, optional=True)
    return Checked(subject, State.OK, tuple(wanted), optional=True)


def outgoing(resolver: Resolver, domain: str, port: int) -> Checked:
    """Whether we may connect to port 25 of others: many providers block it. Nothing is sent."""
    subject = "port 25 outwards"
    hosts = [text.split() for text in resolver.query(domain, "MX").records]
    for _, host in sorted((int(words[0]), words[1]) for words in hosts):
        try:
            dial(addresses(resolver, host), port, timeout=_time(resolver)).close()
        except OSError as error:
            cure = "no mail leaves: ask your provider to open port 25, or set a smarthost in [relay]"
            return Checked(subject, State.DIFFERENT, (f"{host}: {error}"[:160],), cure)
        return Checked(subject, State.OK, (host,))
    return Checked(subject, State.UNKNOWN, (), f"{domain} has no mail server to try with", optional=True)


def incoming(resolver: Resolver, address: str, hostname: str, port: int = 25) -> Checked:
    """What answers on port 25 of our public address, as seen from here (through some routers nothing can)."""
    subject = f"port {port} of {address}"
    try:
        sock = dial([address], port, timeout=_time(resolver))
    except DialError:
        cure = f"from here nothing answers; if not from outside either (`nc -v {hostname} {port}`), see the firewall"
        return Checked(subject, State.UNKNOWN, (), cure, optional=True)
    with sock:
        sock.settimeout(_time(resolver))
        try:
            banner = sock.recv(512).decode(errors="replace").splitlines()
        except (TimeoutError, OSError):
            banner = []
    first = banner[0] if banner else ""
    if hostname.lower() in first.lower():
        return Checked(subject, State.OK, (first,), optional=True)
    cure = f"another server than {hostname} answers there" if first else "it is open, but nobody greets"
    return Checked(subject, State.DIFFERENT, (first[:120],), cure, optional=True)


def _time(resolver: Resolver) -> float:
    left = resolver.left if isinstance(resolver, BoundResolver) else _CONNECT
    return max(0.1, min(_CONNECT, left - 0.3))


def _canonical(address: str) -> str:
    return str(ipaddress.ip_address(address))
