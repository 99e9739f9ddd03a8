"""Authentication results as the pipeline passes them on (RFC 8601 §2)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class AuthResult:
    """One ``method=result`` of an Authentication-Results field.

    ``properties`` are ``(ptype, property, value)`` such as ``("smtp", "mailfrom", "example.net")``.
    """

    method: str
    result: str
    reason: str = ""
    properties: tuple[tuple[str, str, str], ...] = ()
