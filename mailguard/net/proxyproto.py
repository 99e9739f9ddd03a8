"""The PROXY protocol, versions 1 and 2: who a proxy in front of us is speaking for. Bytes in, addresses out."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
MAX_V1 = 107  # octets, CRLF included
_MAX_V2 = 16 + 2048  # addresses and as many TLVs as a sane proxy sends
_FAMILIES = {0x11: (4, "IPv4"), 0x21: (16, "IPv6")}  # TCP only


class ProxyError(ValueError):
    """The header is missing or wrong."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """The client behind the proxy and the address it meant; ``ip`` is ``""`` where the proxy speaks for itself
    (LOCAL, UNKNOWN: health checks). ``length`` is the header's size in octets."""

    length: int
    ip: str = ""
    port: int = 0
    local_ip: str = ""
    local_port: int = 0


def parse(data: bytes) -> ProxyHeader | None:
    """The header at the start of ``data``, None while it is incomplete. Raises ProxyError."""
    if SIGNATURE.startswith(data[:12]) and len(data) < 12:
        return None
    if data.startswith(SIGNATURE):
        return _parse_v2(data)
    if b"PROXY ".startswith(data[:6]):
        return _parse_v1(data)
    raise ProxyError("the proxy sent no PROXY header")


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        if len(data) >= MAX_V1:
            raise ProxyError("the PROXY line is too long")
        return None
    words = data[:end].decode("ascii", "replace").split(" ")
    if words[:2] == ["PROXY", "UNKNOWN"]:
        return ProxyHeader(end + 2)
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise ProxyError("the PROXY line is malformed")
    try:
        ips = [ipaddress.ip_address(word) for word in words[2:4]]
        ports = [int(word) for word in words[4:] if word.isascii() and word.isdigit()]
    except ValueError:
        raise ProxyError("the PROXY line has no valid addresses") from None
    version = int(words[1][3])
    if len(ports) != 2 or max(ports) > 65535 or any(ip.version != version for ip in ips):
        raise ProxyError("the PROXY line has no valid addresses")
    return ProxyHeader(end + 2, str(ips[0]), ports[0], str(ips[1]), ports[1])


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    command, family, length = data[12], data[13], int.from_bytes(data[14:16], "big")
    if command >> 4 != 2 or command & 15 > 1:
        raise ProxyError("the PROXY header has an unknown version or command")
    if length + 16 > _MAX_V2:
        raise ProxyError("the PROXY header is too long")
    if len(data) < 16 + length:
        return None
    if command & 15 == 0 or family not in _FAMILIES:
        return ProxyHeader(16 + length)
    size, _ = _FAMILIES[family]
    if length < 2 * size + 4:
        raise ProxyError("the PROXY header is cut short")
    body = data[16:]
    source, target = (str(ipaddress.ip_address(body[n : n + size])) for n in (0, size))
    port, local_port = struct.unpack("!HH", body[2 * size : 2 * size + 4])
    return ProxyHeader(16 + length, source, port, target, local_port)
