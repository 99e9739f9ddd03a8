"""DMARC records in the DNS, and the walk up the tree that tells which domains belong together (RFC 9989)."""

from __future__ import annotations

from collections.abc import Iterator

from mailguard.model.taglist import tags_of
from mailguard.net.resolver import Resolver

WALK_LIMIT = 8  # names asked at most, RFC 9989 §4.10


def dmarc_record(resolver: Resolver, domain: str) -> dict[str, str] | None:
    """The tags of the one DMARC record at a domain; several are none. Raises DnsTemporaryError."""
    texts = resolver.query(f"_dmarc.{domain}", "TXT").records
    found = [tags for text in texts if (tags := tags_of(text, "DMARC1")) is not None]
    return found[0] if len(found) == 1 else None


def dmarc_walk(domain: str) -> Iterator[str]:
    """The names to ask, from the domain upwards, at most eight (RFC 9989 §4.10)."""
    labels = domain.split(".")
    yield domain
    for start in range(max(1, len(labels) - WALK_LIMIT + 1), len(labels)):
        yield ".".join(labels[start:])


def organisational_domain(resolver: Resolver, domain: str) -> str:
    """The domain under whose control this one stands (RFC 9989 §4.10.2); itself where no record is found.

    Raises DnsTemporaryError.
    """
    shortest = domain
    for name in dmarc_walk(domain):
        record = dmarc_record(resolver, name)
        if record is None:
            continue
        if record.get("psd") == "n":
            return name
        if record.get("psd") == "y" and name != domain:
            return ".".join(domain.split(".")[-(name.count(".") + 2) :])
        shortest = name
    return shortest
