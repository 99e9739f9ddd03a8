"""What a client asks, and the provider its answer is made from.

Nothing here knows whether a user exists: answers depend on the domain alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from xml.etree.ElementTree import Element, ParseError

from mailguard.model.address import AddressError, parse_domain

MAX_ADDRESS = 254  # octets, RFC 3696 erratum 1690
MAX_DEPTH = 10
PREFIXES = ("autoconfig.", "autodiscover.", "mta-sts.", "ua-auto-config.")
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


class RequestError(ValueError):
    """The request cannot be understood; the text says why."""


class Security(Enum):
    """How a port gets its TLS; there is no port without."""

    IMPLICIT = "implicit"
    STARTTLS = "starttls"


@dataclass(frozen=True, slots=True)
class Service:
    """One port to advertise: ``protocol`` is ``imap``, ``pop3`` or ``smtp``."""

    protocol: str
    port: int
    security: Security


@dataclass(frozen=True, slots=True)
class Provider:
    """All that the answers for one hosted domain are made of.

    ``services`` stand in the order of preference, IMAP first; ``web`` is the base URL of the set-up pages
    without a final slash, for instance ``https://mail.example.com``.
    """

    domain: str
    hostname: str
    name: str
    services: tuple[Service, ...]
    web: str

    @property
    def incoming(self) -> tuple[Service, ...]:
        """The IMAP services, then POP3: Geary reads only the first one."""
        found = [s for s in self.services if s.protocol != "smtp"]
        return tuple(sorted(found, key=lambda s: (s.protocol != "imap", s.security is not Security.IMPLICIT)))

    @property
    def outgoing(self) -> tuple[Service, ...]:
        """The submission services, implicit TLS first."""
        found = [s for s in self.services if s.protocol == "smtp"]
        return tuple(sorted(found, key=lambda s: s.security is not Security.IMPLICIT))


@dataclass(frozen=True, slots=True)
class AddressGiven:
    """An address as typed by its user, and its domain with A-labels in lower case."""

    text: str
    domain: str


def parse_address(text: str) -> AddressGiven:
    """Reads an address out of a query or a body; raises RequestError.

    FairEmail sends ``+`` unescaped, which arrives as a space.
    """
    text = text.strip().replace(" ", "+")
    if len(text.encode("utf-8", "surrogatepass")) > MAX_ADDRESS or _CONTROL.search(text):
        raise RequestError("not a mail address")
    local, _, domain = text.rpartition("@")
    if not local or "@" in local:
        raise RequestError("a mail address has one @")
    try:
        return AddressGiven(text, parse_domain(domain))
    except AddressError:
        raise RequestError("not a mail domain") from None


def host_domain(host: str) -> str:
    """The domain a ``Host`` field stands for: without port and set-up prefix, ``""`` if it is no domain."""
    name = host.strip()
    if not name.startswith("["):
        name = name.partition(":")[0]
    try:
        name = parse_domain(name)
    except AddressError:
        return ""
    for prefix in PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


@dataclass(frozen=True, slots=True)
class PoxRequest:
    """An Autodiscover request: ``schema`` is the response schema the client accepts, ``""`` if it named none."""

    address: AddressGiven
    schema: str

    @property
    def wants_outlook(self) -> bool:
        """Whether the answer we have is the one asked for, and not one for ActiveSync or Exchange's services."""
        return not self.schema or "/outlook/responseschema/" in self.schema.lower()


def parse_pox(body: bytes) -> PoxRequest:
    """Reads the XML of a POX request, its names in any case and namespace. Raises RequestError.

    A document type or an entity declaration is refused before any tree is built, as is anything but UTF-8.
    """
    import defusedxml.ElementTree  # for a request in a while
    from defusedxml.common import DefusedXmlException

    try:
        body.decode("utf-8")
        root = defusedxml.ElementTree.fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException, UnicodeDecodeError, ValueError, LookupError):
        raise RequestError("not an Autodiscover request") from None
    found: dict[str, str] = {}
    _collect(root, found, 1)
    if "emailaddress" not in found:
        raise RequestError("the request names no address")
    return PoxRequest(parse_address(found["emailaddress"]), found.get("acceptableresponseschema", ""))


def _collect(element: Element, found: dict[str, str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise RequestError("elements are nested too deeply")
    name = element.tag.rpartition("}")[2].lower() if isinstance(element.tag, str) else ""
    found.setdefault(name, (element.text or "").strip())
    for child in element:
        _collect(child, found, depth + 1)
