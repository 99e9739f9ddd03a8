"""Mail addresses: RFC 5321's Mailbox (RFC 5321 §4.1.2, RFC 6531 §3.3), without the paths around them."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

import idna

_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+"
                       r"(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u0080-\U0010ffff]+)*\Z")  # fmt: skip
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?\Z|_[a-z0-9\-_]{1,62}\Z")
_QUOTED = re.compile(r'"((?:[^"\\\x00-\x1f\x7f]|\\[\x20-\x7e])*)"\Z')

MAX_LOCAL = 64  # octets, RFC 5321 §4.5.3.1.1
MAX_DOMAIN = 255  # octets, RFC 5321 §4.5.3.1.2


class AddressError(ValueError):
    """Not a mail address; the text says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Address:
    """A mail address.

    ``local`` is the local part as given, unquoted, its case kept (RFC 5321 §2.4); ``domain`` is in lower
    case with A-labels, or an address literal such as ``[192.0.2.1]``, or ``""`` for the bare ``postmaster``.
    """

    local: str
    domain: str
    key: str = field(init=False, repr=False, compare=False)
    """The form to compare and look up by: everything in lower case, characters composed (RFC 6532 §3.1)."""

    def __post_init__(self) -> None:
        local = self.local if self.local.isascii() else unicodedata.normalize("NFC", self.local)
        object.__setattr__(self, "key", f"{local.casefold()}@{self.domain}")

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads ``local@domain``; raises AddressError."""
        return _parse(text)

    @property
    def is_literal(self) -> bool:
        """Whether the domain is an address literal (RFC 5321 §4.1.3)."""
        return self.domain.startswith("[")

    @property
    def needs_utf8(self) -> bool:
        """Whether the address can only travel under SMTPUTF8 (RFC 6531)."""
        return not self.local.isascii()

    def __str__(self) -> str:
        return f"{quote_local(self.local)}@{self.domain}" if self.domain else quote_local(self.local)


@lru_cache(maxsize=1024)
def _parse(text: str) -> Address:
    """Kept, as the same few addresses write and are written to all day."""
    local, at, domain = _split(text)
    if not at:
        raise AddressError(f"{text!r} has no @")
    return Address(parse_local(local), parse_domain(domain))


def _split(text: str) -> tuple[str, bool, str]:
    if text.startswith('"'):
        end = text.find('"@', 1)
        return (text[: end + 1], True, text[end + 2 :]) if end > 0 else (text, False, "")
    local, at, domain = text.rpartition("@")
    return local, bool(at), domain


def parse_local(text: str) -> str:
    """A Local-part, dot-string or quoted string, unquoted; raises AddressError."""
    if quoted := _QUOTED.match(text):
        local = re.sub(r"\\(.)", r"\1", quoted[1])
    elif _DOT_ATOM.match(text):
        local = text
    else:
        raise AddressError(f"{text!r} is not a local part")
    if not local or len(local.encode()) > MAX_LOCAL:
        raise AddressError(f"the local part must have 1 to {MAX_LOCAL} octets")
    return local


@lru_cache(maxsize=1024)
def quote_local(local: str) -> str:
    """The local part as it stands in an address, quoted where it must be."""
    if _DOT_ATOM.match(local):
        return local
    return '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'


def parse_domain(text: str) -> str:
    """A domain in lower case with A-labels, or an address literal; raises AddressError."""
    if text.startswith("["):
        return _parse_literal(text)
    domain = text.removesuffix(".").lower()
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise AddressError(f"{text!r} is not a domain: {error}") from None
    if not domain or len(domain) > MAX_DOMAIN:
        raise AddressError(f"a domain must have 1 to {MAX_DOMAIN} octets")
    if not all(_LABEL.match(label) for label in domain.split(".")):
        raise AddressError(f"{text!r} is not a domain")
    return domain


def _parse_literal(text: str) -> str:
    inner = text[1:-1] if text.endswith("]") else ""
    try:
        if inner[:5].lower() == "ipv6:":
            return f"[IPv6:{ipaddress.IPv6Address(inner[5:])}]"
        return f"[{ipaddress.IPv4Address(inner)}]"
    except ValueError:
        raise AddressError(f"{text!r} is not an address literal") from None


def unicode_domain(domain: str) -> str:
    """The domain with U-labels, for people to read; the domain itself where it cannot be decoded."""
    try:
        return idna.decode(domain)
    except (idna.IDNAError, UnicodeError):
        return domain
