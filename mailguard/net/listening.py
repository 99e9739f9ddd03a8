"""Where the server listens: ``[[listener]]`` of mailguard.toml, and the sockets made of it."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Kind = Literal["smtp", "submission", "submissions", "lmtp", "imap", "imaps", "pop3", "pop3s", "http", "https"]

PORTS: dict[str, int] = {
    "smtp": 25,
    "submission": 587,
    "submissions": 465,
    "lmtp": 24,
    "imap": 143,
    "imaps": 993,
    "pop3": 110,
    "pop3s": 995,
    "http": 80,
    "https": 443,
}
"""The port of each kind of listener where none is given."""

_BACKLOG = 1024


class ListenerSettings(BaseModel):
    """``[[listener]]`` of mailguard.toml: one socket to listen on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind = Field(description="what is spoken there; `submissions`, `imaps`, `pop3s`, `https` are TLS throughout")
    address: str = Field(
        default="*", description="address to listen on; `*`: all, IPv4 and IPv6; a path beginning with `/`: Unix socket"
    )
    port: int = Field(default=0, ge=0, le=65535, description="TCP port; 0: the usual one of the kind")
    proxy_from: tuple[str, ...] = Field(
        default=(), description="networks of proxies that put a PROXY protocol header first (and must)"
    )

    @field_validator("proxy_from")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(text, strict=False)) for text in value)

    @field_validator("address")
    @classmethod
    def _address(cls, value: str) -> str:
        return value if value == "*" or value.startswith("/") else str(ipaddress.ip_address(value.strip("[]")))

    @property
    def tcp_port(self) -> int:
        """The port, the usual one if none is set."""
        return self.port or PORTS[self.kind]

    @property
    def implicit_tls(self) -> bool:
        """Whether TLS begins with the first octet."""
        return self.kind in ("submissions", "imaps", "pop3s", "https")

    @property
    def where(self) -> str:
        """The address as people write it."""
        if self.address.startswith("/"):
            return self.address
        host = "0.0.0.0" if self.address == "*" else self.address
        return f"[{host}]:{self.tcp_port}" if ":" in host else f"{host}:{self.tcp_port}"


class ListenError(OSError):
    """A listening socket cannot be opened; the text names address and cure."""


def open_socket(settings: ListenerSettings) -> socket.socket:
    """The listening socket. Raises ListenError."""
    try:
        if settings.address.startswith("/"):
            return _unix(Path(settings.address))
        if settings.address == "*":
            return _all(settings.tcp_port)
        family = socket.AF_INET6 if ":" in settings.address else socket.AF_INET
        return _tcp(family, settings.address, settings.tcp_port)
    except OSError as error:
        raise ListenError(f"cannot listen on {settings.where} ({settings.kind}): {_cure(error, settings)}") from error


def _all(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):
            return _tcp(socket.AF_INET6, "::", port, dual=True)
    return _tcp(socket.AF_INET, "0.0.0.0", port)


def _tcp(family: int, host: str, port: int, *, dual: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _unix(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                if probe.connect_ex(str(path)) != 0:
                    path.unlink()  # left by a server that is gone
        sock.bind(str(path))
        path.chmod(0o660)
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


def _cure(error: OSError, settings: ListenerSettings) -> str:
    reason = error.strerror or str(error)
    if isinstance(error, PermissionError):
        return f"{reason}; ports below 1024 need root or CAP_NET_BIND_SERVICE (or `mailguard init --port-offset 10000`)"
    if error.errno == 98:
        return f"{reason}; another server holds it (`ss -ltnp 'sport = :{settings.tcp_port}'` shows which)"
    if error.errno == 99:
        return f"{reason}; this machine has no such address"
    return reason or os.strerror(error.errno or 0)
