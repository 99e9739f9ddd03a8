"""Is what a domain publishes what it should publish? Each record asked for, side by side, under one deadline."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import Enum

from mailguard.net.resolver import DnsTemporaryError, Resolver, addresses
from mailguard.protocol.autoconfig.records import Record

DEADLINE = 8.0  # seconds for all questions together
_PARALLEL = 16


class State(Enum):
    """What came of a question; ``UNKNOWN``: the DNS did not answer."""

    OK = "ok"
    MISSING = "missing"
    DIFFERENT = "different"
    DANGEROUS = "dangerous"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Checked:
    """One record and what was found: ``cure`` is what to do about it, ``""`` where all is well."""

    record: Record
    state: State
    found: tuple[str, ...]
    cure: str = ""

    @property
    def failed(self) -> bool:
        """Whether mail suffers from it."""
        return self.state is State.DANGEROUS or (self.state is not State.OK and not self.record.optional)


def check(resolver: Resolver, wanted: Sequence[Record], *, deadline: float = DEADLINE) -> list[Checked]:
    """Asks for every record; what is not answered before the deadline is ``UNKNOWN``."""
    until = time.monotonic() + deadline
    pool = ThreadPoolExecutor(_PARALLEL, thread_name_prefix="dns-check")
    try:
        futures = [pool.submit(_check, resolver, record, until) for record in wanted]
        done, _ = wait(futures, timeout=deadline)
        return [
            future.result() if future in done else _unknown(record, "no answer in time")
            for future, record in zip(futures, wanted, strict=True)
        ]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _check(resolver: Resolver, record: Record, until: float) -> Checked:
    try:
        left = max(0.1, until - time.monotonic())
        found = resolver.query(record.name, record.type, timeout=left).records
        if record.type == "CNAME" and not found and _same_host(resolver, record):
            return Checked(record, State.OK, ("the same addresses",))
        return judge(record, found)
    except DnsTemporaryError as error:
        return _unknown(record, str(error))


def _same_host(resolver: Resolver, record: Record) -> bool:
    there = set(addresses(resolver, record.name))
    return bool(there) and there == set(addresses(resolver, record.data))


def _unknown(record: Record, reason: str) -> Checked:
    return Checked(record, State.UNKNOWN, (), f"the DNS gave no answer ({reason}); check the resolver, then try again")


def judge(record: Record, found: Sequence[str]) -> Checked:
    """Compares what is published with what should be."""
    found = tuple(found)
    if record.type == "TXT":
        return _text(record, found)
    if record.type == "MX":
        return _mx(record, found)
    if any(_plain(text) == _plain(record.data) for text in found):
        return Checked(record, State.OK, found)
    if not found and record.type == "SRV" and record.data.endswith(" ."):
        return Checked(record, State.OK, found)
    if not found:
        return Checked(record, State.MISSING, found, f"publish {record.type} {record.data}")
    if record.type == "CAA":
        return Checked(record, State.DIFFERENT, found, f"add {record.data}, or certificates may not be issued")
    return Checked(record, State.DIFFERENT, found, f"change it to {record.data}")


def _plain(text: str) -> str:
    return " ".join(text.lower().rstrip(".").split())


def _mx(record: Record, found: tuple[str, ...]) -> Checked:
    host = record.data.split()[-1]
    hosts = [text.split()[-1].rstrip(".").lower() or "." for text in found]
    if not found:
        return Checked(record, State.MISSING, found, f"publish MX {record.data}: no mail arrives without")
    if "." in hosts:
        return Checked(record, State.DANGEROUS, found, "remove the null MX: it says that the domain takes no mail")
    if host not in hosts:
        return Checked(record, State.DANGEROUS, found, f"mail goes elsewhere: point MX to {host}")
    if len(hosts) > 1:
        return Checked(record, State.DIFFERENT, found, f"mail also goes to others; remove all but {host} if not meant")
    return Checked(record, State.OK, found)


def _text(record: Record, found: tuple[str, ...]) -> Checked:
    kind = record.data.split(";")[0].split()[0].lower()
    same = tuple(text for text in found if text.lower().startswith(kind))
    if not same:
        return Checked(record, State.MISSING, found, f"publish TXT {record.data}")
    if len(same) > 1 and kind != "v=uaac1":
        return Checked(record, State.DANGEROUS, same, f"there are {len(same)} of them, so none counts: keep one")
    if kind == "v=spf1":
        return _spf(record, same[0])
    if kind == "v=dkim1":
        return _dkim(record, same[0])
    if kind in ("v=dmarc1", "v=stsv1", "v=tlsrptv1") or record.data in same:
        # Which policy and address are the owner's choice.
        return Checked(record, State.OK, same)
    return Checked(record, State.DIFFERENT, same, f"change it to {record.data}")


def _spf(record: Record, text: str) -> Checked:
    terms = text.lower().split()[1:]
    if any(term in ("+all", "all", "?all") for term in terms):
        return Checked(record, State.DANGEROUS, (text,), "it lets anybody send for the domain: end it with -all")
    lookups = sum(map(_asks, terms))
    if lookups > 10:
        return Checked(record, State.DANGEROUS, (text,), f"{lookups} terms ask the DNS, ten are allowed: it fails")
    ours = record.data.split()[1]
    if terms and ours not in [term.lstrip("+") for term in terms]:
        return Checked(record, State.DIFFERENT, (text,), f"add `{ours}`, or our own mail fails SPF")
    return Checked(record, State.OK, (text,))


def _asks(term: str) -> bool:
    """Whether an SPF term costs one of the ten look-ups (RFC 7208 §4.6.4)."""
    name = re.split("[:/=]", term.lstrip("+-~?"), maxsplit=1)[0]
    return name in ("include", "a", "mx", "ptr", "exists", "redirect")


def _dkim(record: Record, text: str) -> Checked:
    if _key(text) == _key(record.data):
        return Checked(record, State.OK, (text,))
    return Checked(record, State.DANGEROUS, (text,), "it is not our key: every signature fails; publish ours")


def _key(text: str) -> str:
    tags = dict(part.strip().partition("=")[::2] for part in text.split(";") if "=" in part)
    return "".join(tags.get("p", "").split())
