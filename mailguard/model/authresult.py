"""Authentication results (RFC 8601): as the pipeline passes them on, as a field, and telling forged fields apart."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import authres

from mailguard.model.message import Field, Message

_UNSAFE = re.compile(r'[^\x21-\x7e]|["\\;()]')
_PLAIN = re.compile(r"[A-Za-z0-9@._+-]{1,500}\Z")
_CONTROL = re.compile(r"[^\x20-\x7e]|[\"\\]")
_COMMENT = re.compile(r"\((?:[^()\\]|\\.)*\)")
_SERVER = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"()/]+))')


@dataclass(frozen=True, slots=True)
class AuthResult:
    """One ``method=result`` of an Authentication-Results field.

    ``properties`` are ``(ptype, property, value)`` such as ``("smtp", "mailfrom", "example.net")``.
    """

    method: str
    result: str
    reason: str = ""
    properties: tuple[tuple[str, str, str], ...] = ()


def render(authserv_id: str, results: Iterable[AuthResult]) -> bytes:
    """The complete field, folded after each result; ``none`` where there are no results (RFC 8601 §2.2)."""
    clauses = [_plain_clause(result) or _clause(result) for result in results]
    if not clauses:
        return f"Authentication-Results: {authserv_id}; none\r\n".encode()
    lines = ";\r\n\t".join(clauses)
    return f"Authentication-Results: {authserv_id};\r\n\t{lines}\r\n".encode("ascii", "replace")


def _plain_clause(result: AuthResult) -> str:
    """One result in which nothing needs quotes, as nearly all are; ``""`` for others."""
    if result.reason or not result.result:
        return ""
    words = [f"{result.method}={result.result}".lower()]
    for kind, name, value in result.properties:
        if value:
            if not _PLAIN.match(value):
                return ""
            words.append(f"{kind}.{name}".lower() + f"={value}")
    return " ".join(words)


def _clause(result: AuthResult) -> str:
    made = authres.AuthenticationResult(
        method=result.method,
        result=result.result,
        reason=_CONTROL.sub("?", result.reason)[:200] or None,
        properties=[
            authres.AuthenticationResultProperty(kind, name, _UNSAFE.sub("?", value)[:500])
            for kind, name, value in result.properties
            if value
        ],
    )
    return str(made).strip()


def authserv_id(value: str) -> str:
    """The authserv-id of a field body in lower case, comments, folding and quotes taken away; ``""`` if none."""
    text = value
    while (bare := _COMMENT.sub(" ", text)) != text:  # innermost comments first: they nest
        text = bare
    match = _SERVER.match(text)
    if match is None:
        return ""
    return (re.sub(r"\\(.)", r"\1", match[1]) if match[1] is not None else match[2]).strip().rstrip(".").lower()


def drop_forged(message: Message, own_id: str) -> Message:
    """The message without Authentication-Results fields that claim to be ours, and without ones whose author
    cannot be read (RFC 8601 §5)."""
    own = own_id.rstrip(".").lower()
    forged = [f for f in message.get_all("Authentication-Results") if _claims(f, own)]
    return message.without(forged) if forged else message


def _claims(field: Field, own: str) -> bool:
    return authserv_id(field.value) in (own, "")
