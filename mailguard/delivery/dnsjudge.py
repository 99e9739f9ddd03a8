"""What is published, held against what should be: the verdict on each record, without asking anybody."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import replace

from mailguard.delivery.dnscheck import Checked, State
from mailguard.protocol.autoconfig.records import Record

MAX_LOOKUPS = 10  # of an SPF record, RFC 7208 §4.6.4


def judge(record: Record, found: Sequence[str], *, addresses: Sequence[str] = ()) -> Checked:
    """Compares what is published with what should be; ``addresses`` are our own, for SPF."""
    found = tuple(found)
    state, cure = _verdict(record, found, addresses)
    return Checked(f"{record.name} {record.type}", state, found, cure, record.optional, record)


def _verdict(record: Record, found: tuple[str, ...], addresses: Sequence[str]) -> tuple[State, str]:
    if record.type == "TXT":
        return _text(record, found, addresses)
    if record.type == "MX":
        return _mx(record, found)
    if any(_plain(text) == _plain(record.data) for text in found):
        return State.OK, ""
    if not found and record.type == "SRV" and record.data.endswith(" ."):
        return State.OK, ""
    if not found or record.ahead:
        return State.MISSING, f"publish {record.type} {record.data}" + _who(record)
    if record.type == "CAA":
        return _caa(record, found)
    if record.type == "TLSA":
        return State.DANGEROUS, f"servers that check it will not deliver: it must be {record.data}"
    return State.DIFFERENT, f"change it to {record.data}" + _who(record)


def _who(record: Record) -> str:
    return " (whoever gave you the address sets it)" if record.type == "PTR" else ""


def _plain(text: str) -> str:
    return " ".join(text.lower().rstrip(".").split())


def _caa(record: Record, found: tuple[str, ...]) -> tuple[State, str]:
    tag, _, value = record.data.removeprefix("0 ").partition(" ")
    same = [text for text in found if text.split()[1:2] == [tag]]
    if tag != "issue" or not same:
        return (State.MISSING, f"add {record.data}") if tag != "issue" else (State.OK, "")
    issuer = value.strip('"').partition(";")[0].strip()
    if any(text.split(maxsplit=2)[2].strip('"').partition(";")[0].strip() == issuer for text in same):
        return State.OK, ""  # another account or method than ours is its owner's choice
    return State.DANGEROUS, f"{issuer} may issue no certificate for us: add {record.data}"


def _mx(record: Record, found: tuple[str, ...]) -> tuple[State, str]:
    host = record.data.split()[-1]
    hosts = [text.split()[-1].rstrip(".").lower() or "." for text in found]
    if not found or record.ahead:
        return State.MISSING, f"publish MX {record.data}: no mail arrives without"
    if "." in hosts:
        return State.DANGEROUS, "remove the null MX: it says that the domain takes no mail"
    if host not in hosts:
        return State.DANGEROUS, f"mail goes elsewhere: point MX to {host}"
    if len(hosts) > 1:
        return State.DIFFERENT, f"mail also goes to others; remove all but {host} if not meant"
    return State.OK, ""


def _text(record: Record, found: tuple[str, ...], addresses: Sequence[str]) -> tuple[State, str]:
    kind = record.data.split(";")[0].split()[0].lower()
    same = tuple(text for text in found if text.lower().startswith(kind))
    if not same:
        return State.MISSING, f"publish TXT {record.data}"
    if len(same) > 1 and kind != "v=uaac1":
        return State.DANGEROUS, f"there are {len(same)} of them, so none counts: keep one"
    if kind == "v=spf1":
        return _spf(record, same[0], addresses)
    if kind == "v=dkim1":
        if tags(same[0]).get("p", "") == tags(record.data).get("p", ""):
            return State.OK, ""
        return State.DANGEROUS, "it is not our key: every signature fails; publish ours"
    if kind == "v=dmarc1":
        return _dmarc(record, same[0])
    if kind in ("v=stsv1", "v=tlsrptv1") and tags(record.data).keys() <= tags(same[0]).keys():
        return _report(record, same[0])
    if record.data in same:
        return State.OK, ""
    return State.DIFFERENT, f"change it to {record.data}"


def _report(record: Record, text: str) -> tuple[State, str]:
    ours, theirs = tags(record.data).get("id", ""), tags(text).get("id", "")
    if ours != theirs:
        return State.DIFFERENT, f"the policy has changed: set id={ours}, or others keep the old one until it expires"
    return State.OK, ""  # who gets reports is the owner's choice


def _dmarc(record: Record, text: str) -> tuple[State, str]:
    policy = tags(text).get("p", "").lower()
    if policy not in ("none", "quarantine", "reject"):
        return State.DANGEROUS, f"p={policy or '(none given)'} is no policy: use none, quarantine or reject"
    if "rua" not in tags(text):
        return State.DIFFERENT, f"nobody gets its reports: add rua={tags(record.data).get('rua', '')}"
    return State.OK, ""


def _spf(record: Record, text: str, addresses: Sequence[str]) -> tuple[State, str]:
    terms = text.lower().split()[1:]
    if any(term in ("+all", "all", "?all") for term in terms):
        return State.DANGEROUS, "it lets anybody send for the domain: end it with -all"
    ours = record.data.split()[1]
    plain = [term.lstrip("+") for term in terms]
    # What an included record allows is seen only by asking; the tree is walked elsewhere.
    open_ended = any(term.startswith(("include:", "redirect=", "exists:")) for term in plain)
    if ours not in plain and not open_ended and not _named(plain, record, addresses):
        return State.DIFFERENT, f"add `{ours}`, or our own mail fails SPF"
    return State.OK, ""


def _named(terms: Sequence[str], record: Record, addresses: Sequence[str]) -> bool:
    """Whether our addresses, or the host that they belong to, stand in the SPF record by themselves."""
    if any(term.partition(":")[0] in ("a", "mx") for term in terms):
        return True
    networks = [term.partition(":")[2] for term in terms if term.startswith(("ip4:", "ip6:"))]
    return bool(addresses) and all(any(_inside(address, net) for net in networks) for address in addresses)


def _inside(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def asks(term: str) -> bool:
    """Whether an SPF term costs one of the ten look-ups (RFC 7208 §4.6.4)."""
    name = re.split("[:/=]", term.lstrip("+-~?"), maxsplit=1)[0]
    return name in ("include", "a", "mx", "ptr", "exists", "redirect")


def tags(text: str) -> dict[str, str]:
    """The ``tag=value`` pairs of a TXT record such as DKIM's, spaces in values removed."""
    pairs = (part.strip().partition("=") for part in text.split(";") if "=" in part)
    return {name.strip().lower(): "".join(value.split()) for name, _, value in pairs}


def compare(seen: Checked, own: dict[str, Checked]) -> Checked:
    """The resolver's verdict beside those of the domain's own servers (by their names)."""
    if not own or seen.state is State.UNKNOWN:
        return seen
    good = [name for name, verdict in own.items() if verdict.state is State.OK]
    if seen.state is not State.OK and len(good) == len(own):
        return replace(seen, cure="published, but our resolver has an older answer: wait until its cache forgets it")
    bad = sorted(own.keys() - good)
    if seen.state is State.OK and bad:
        other = ", ".join(own[bad[0]].found) or "nothing"
        text = f"{', '.join(bad)} answers otherwise ({other[:80]}): its copy of the zone is not the newest"
        return replace(seen, state=State.DIFFERENT, cure=text)
    return seen
