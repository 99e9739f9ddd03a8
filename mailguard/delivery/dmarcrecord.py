"""The DMARC record of a domain as its owner published it, and to whom reports about it may go (RFC 9989, RFC 9990)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mailguard.model.address import Address, AddressError
from mailguard.model.taglist import tags_of
from mailguard.net.dmarc import dmarc_record, organisational_domain
from mailguard.net.resolver import Resolver

_URI = re.compile(r"mailto:([^!,\s]+)(?:!(\d{1,9})([kmgt]?))?\Z", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True, slots=True)
class Published:
    """``domain`` is where the record is, ``tags`` its tags, ``organisation`` the domain everything below belongs to."""

    domain: str
    tags: dict[str, str]
    organisation: str


def published(resolver: Resolver, author: str) -> Published | None:
    """The record that applies to an author's domain. Raises DnsTemporaryError."""
    above = organisational_domain(resolver, author)
    for name in dict.fromkeys((author, above)):
        if (tags := dmarc_record(resolver, name)) is not None:
            return Published(name, tags, above)
    return None


def destinations(resolver: Resolver, record: Published) -> Iterator[tuple[Address, int]]:
    """Who asked for aggregate reports and may have them, with the octets they take at most (0: any number).

    A destination under other control must agree in its own DNS (RFC 9990 §4). Raises DnsTemporaryError.
    """
    for uri in record.tags.get("rua", "").split(","):
        found = mailto(uri)
        if found is None:
            continue
        domain = found[0].domain
        if organisational_domain(resolver, domain) != record.organisation:
            name = f"{record.domain}._report._dmarc.{domain}"
            texts = resolver.query(name, "TXT").records
            if not any(tags_of(text, "DMARC1") is not None for text in texts):
                continue
        yield found


def mailto(uri: str) -> tuple[Address, int] | None:
    """The address of a ``mailto:`` URI and the size it limits reports to; None for anything else."""
    match = _URI.match(uri.strip())
    try:
        return (Address.parse(match[1]), int(match[2] or 0) * _UNITS[(match[3] or "").lower()]) if match else None
    except AddressError:
        return None
