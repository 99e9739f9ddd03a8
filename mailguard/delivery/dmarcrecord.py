"""The DMARC record of a domain as its owner published it, and to whom reports about it may go (RFC 9989, RFC 9990)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mailguard.model.address import Address, AddressError
from mailguard.net.resolver import Resolver

_LABELS = 8  # names asked at most on the way up, RFC 9989 §4.10
_URI = re.compile(r"mailto:([^!,\s]+)(?:!(\d{1,9})([kmgt]?))?\Z", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True, slots=True)
class Published:
    """``domain`` is where the record is, ``tags`` its tags, ``organisation`` the domain everything below belongs to."""

    domain: str
    tags: dict[str, str]
    organisation: str


def tags_of(text: str, version: str) -> dict[str, str] | None:
    """The tags of a TXT record that begins with ``v=VERSION``, None if it does not."""
    pairs = [part.partition("=") for part in text.split(";") if part.strip()]
    if not pairs or (pairs[0][0].strip().lower(), pairs[0][2].strip()) != ("v", version):
        return None
    return {name.strip().lower(): value.strip() for name, _, value in pairs[1:]}


def _at(resolver: Resolver, name: str) -> dict[str, str] | None:
    texts = resolver.query(f"_dmarc.{name}", "TXT").records
    found = [tags for text in texts if (tags := tags_of(text, "DMARC1")) is not None]
    return found[0] if len(found) == 1 else None


def _upwards(domain: str) -> Iterator[str]:
    labels = domain.split(".")
    yield domain
    for start in range(max(1, len(labels) - _LABELS + 1), len(labels)):
        yield ".".join(labels[start:])


def organisation(resolver: Resolver, domain: str) -> str:
    """The domain under whose control this one stands; itself where nothing is published. Raises DnsTemporaryError."""
    shortest = domain
    for name in _upwards(domain):
        tags = _at(resolver, name)
        if tags is None:
            continue
        if tags.get("psd") == "n":
            return name
        if tags.get("psd") == "y" and name != domain:
            return ".".join(domain.split(".")[-(name.count(".") + 2) :])
        shortest = name
    return shortest


def published(resolver: Resolver, author: str) -> Published | None:
    """The record that applies to an author's domain. Raises DnsTemporaryError."""
    above = organisation(resolver, author)
    for name in dict.fromkeys((author, above)):
        if (tags := _at(resolver, name)) is not None:
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
        if organisation(resolver, domain) != record.organisation:
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
