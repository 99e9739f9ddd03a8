"""Questions to a resolver and its answers as octets (RFC 1035 §4, RFC 6891): the few kinds of record that mail asks
for all day are read here, in a tenth of the time; everything else, and every odd name, is dnspython's."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdatatype

PAYLOAD = 1232  # octets that an answer over UDP may have (DNS Flag Day 2020)
NEGATIVE_TTL = 60  # seconds, where the answer has no SOA
_NXDOMAIN = 3
_HEAD = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_SOA, _CNAME, _IN = 6, 5, 1
_TYPES = {"A": 1, "NS": 2, "CNAME": 5, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33}
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
_MOST_ALIASES = 16


class WireError(ValueError):
    """The octets are no answer to the question."""


class _OddError(Exception):
    """Something rare is in it: left to dnspython."""


@dataclass(frozen=True, slots=True)
class Read:
    """An answer: the response code, whether it was cut short, the records as text (``Answer.records``), seconds to
    live, the AD bit."""

    rcode: int
    truncated: bool = False
    records: tuple[str, ...] = ()
    ttl: int = NEGATIVE_TTL
    authentic: bool = False

    @property
    def exists(self) -> bool:
        """Whether there is such a name."""
        return self.rcode != _NXDOMAIN


def question(number: int, name: str, rdtype: str, *, dnssec: bool = False) -> bytes:
    """A query with the id ``number`` for an absolute name without its last dot. Raises ValueError for a name or a type
    that cannot be."""
    try:
        kind = _TYPES.get(rdtype) or int(dns.rdatatype.from_text(rdtype))
        octets = _encoded(name)
    except dns.exception.DNSException as error:
        raise ValueError(f"{name} {rdtype}: {error}") from error
    head = _HEAD.pack(number, dns.flags.RD, 1, 0, 0, 1)
    edns = struct.pack("!BHHIH", 0, dns.rdatatype.OPT, PAYLOAD, dns.flags.DO if dnssec else 0, 0)
    return head + octets + struct.pack("!HH", kind, _IN) + edns


def can_be(name: str, rdtype: str) -> bool:
    """Whether there can be such a name and such a type."""
    try:
        question(0, name, rdtype)
    except ValueError:
        return False
    return True


def _encoded(name: str) -> bytes:
    if not name.isascii() or "\\" in name or not name:
        return dns.name.from_text(name + ".").to_wire() or b"\0"
    labels = name.encode("ascii").split(b".")
    if not all(0 < len(label) < 64 for label in labels) or len(name) > 253:
        raise ValueError(f"{name}: no name of the DNS")
    return b"".join([bytes((len(label),)) + label for label in labels]) + b"\0"


def fits(wire: bytes, asked: bytes) -> bool:
    """Whether these octets answer that query: the same id and question."""
    end = len(asked) - 11
    return (
        len(wire) >= end
        and wire[:2] == asked[:2]
        and wire[2] & 0x80 > 0
        and wire[12:end].lower() == asked[12:end].lower()
    )


def read(wire: bytes, asked: bytes, rdtype: str) -> Read:
    """Reads what ``fits``. Raises WireError for a broken message."""
    try:
        return _read(wire, len(asked) - 11, rdtype)
    except (_OddError, struct.error, IndexError, ValueError):
        return _read_any(wire, rdtype)


def _read(wire: bytes, at: int, rdtype: str) -> Read:
    _, flags, _, answers, authorities, _ = _HEAD.unpack_from(wire)
    rcode, truncated, authentic = flags & 15, bool(flags & dns.flags.TC), bool(flags & dns.flags.AD)
    if truncated or rcode not in (0, _NXDOMAIN):
        return Read(rcode, truncated)
    kind = _TYPES.get(rdtype)
    if kind is None:
        raise _OddError
    name, _ = _name(wire, 12)
    aliases: dict[str, tuple[int, str]] = {}
    found: dict[str, list[tuple[int, str]]] = {}
    for _ in range(answers):
        owner, at = _name(wire, at)
        is_, class_, ttl, size = _RECORD.unpack_from(wire, at)
        at += _RECORD.size
        if class_ == _IN and is_ == kind:
            found.setdefault(owner, []).append((ttl, _text(wire, at, size, kind)))
        elif class_ == _IN and is_ == _CNAME:
            aliases[owner] = ttl, _name(wire, at)[0]
        at += size
    ttl = 86_400
    for _ in range(_MOST_ALIASES):
        if name in found or name not in aliases:
            break
        more, name = aliases[name]
        ttl = min(ttl, more)
    if rcode == 0 and (records := found.get(name)):
        ttl = min(ttl, *(seconds for seconds, _ in records))
        return Read(0, records=tuple(dict.fromkeys(text for _, text in records)), ttl=ttl, authentic=authentic)
    return Read(rcode, ttl=min(ttl, _negative(wire, at, authorities)), authentic=authentic)


def _negative(wire: bytes, at: int, count: int) -> int:
    """Seconds that "there is none" may be remembered (RFC 2308 §5)."""
    for _ in range(count):
        _, at = _name(wire, at)
        kind, _, ttl, size = _RECORD.unpack_from(wire, at)
        at += _RECORD.size
        if kind == _SOA:
            (minimum,) = struct.unpack_from("!I", wire, at + size - 4)
            return int(min(ttl, minimum))
        at += size
    return NEGATIVE_TTL


def _name(wire: bytes, at: int) -> tuple[str, int]:
    """The name at a place, in lower case without the last dot, and the place behind it."""
    labels: list[str] = []
    behind = 0
    for _ in range(128):
        size = wire[at]
        if size >= 192:
            behind = behind or at + 2
            at = (size & 63) << 8 | wire[at + 1]
            continue
        at += 1
        if not size:
            return ".".join(labels), behind or at
        label = wire[at : at + size]
        if size > 63 or not _PLAIN.issuperset(label):
            raise _OddError
        labels.append(label.decode("ascii").lower())
        at += size
    raise _OddError


def _text(wire: bytes, at: int, size: int, kind: int) -> str:
    match kind:
        case 1:
            return socket.inet_ntop(socket.AF_INET, wire[at : at + size])
        case 28:
            return socket.inet_ntop(socket.AF_INET6, wire[at : at + size])
        case 16:
            end, pieces = at + size, []
            while at < end:
                pieces.append(wire[at + 1 : at + 1 + wire[at]])
                at += 1 + wire[at]
            if at != end:
                raise _OddError
            return b"".join(pieces).decode("utf-8", "surrogateescape")
        case 15:
            return f"{int.from_bytes(wire[at : at + 2])} {_name(wire, at + 2)[0] or '.'}"
        case 33:
            numbers = struct.unpack_from("!HHH", wire, at)
            return " ".join([*map(str, numbers), _name(wire, at + 6)[0] or "."])
        case _:
            return _name(wire, at)[0] or "."


def _read_any(wire: bytes, rdtype: str) -> Read:
    try:
        message = dns.message.from_wire(wire)
        if not isinstance(message, dns.message.QueryMessage):
            raise WireError("no answer")
        rcode, authentic = int(message.rcode()), bool(message.flags & dns.flags.AD)
        if message.flags & dns.flags.TC or rcode not in (0, _NXDOMAIN):
            return Read(rcode, bool(message.flags & dns.flags.TC))
        chain = message.resolve_chaining()
    except (dns.exception.DNSException, ValueError) as error:
        raise WireError(f"a broken answer: {error or type(error).__name__}") from error
    if rcode or chain.answer is None:
        return Read(rcode, ttl=_soa_ttl(message), authentic=authentic)
    records = tuple(record_text(record, rdtype) for record in chain.answer)
    return Read(0, records=records, ttl=chain.minimum_ttl, authentic=authentic)


def _soa_ttl(message: dns.message.Message) -> int:
    for rrset in message.authority:
        if rrset.rdtype == dns.rdatatype.SOA:
            return int(min(rrset.ttl, rrset[0].minimum))
    return NEGATIVE_TTL


def record_text(record: object, rdtype: str) -> str:
    """A record of dnspython in the form of ``Answer.records``."""
    if rdtype in ("TXT", "SPF"):
        return b"".join(record.strings).decode("utf-8", "surrogateescape")  # type: ignore[attr-defined]
    text = str(record)
    if rdtype in ("MX", "PTR", "CNAME", "NS", "SRV"):
        return " ".join(part.rstrip(".").lower() or "." for part in text.split(" "))
    return text
