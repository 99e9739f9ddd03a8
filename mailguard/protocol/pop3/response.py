"""POP3 responses as octets (RFC 1939 §3, RFC 2449 §5)."""

from __future__ import annotations

from mailguard.protocol.pop3.event import Offer, State

MAX_TEXT = 500  # octets of text in a response line, RFC 2449 §4


def capabilities(offer: Offer, state: State) -> bytes:
    """The answer to CAPA; what only serves to sign in is left out once that is done."""
    lines = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "UTF8 USER", "LANG", "EXPIRE NEVER"]
    if state is State.AUTHORIZATION:
        if offer.cleartext:
            lines.append("USER")
        if offer.mechanisms:
            lines.append("SASL " + " ".join(offer.mechanisms))
        if offer.stls:
            lines.append("STLS")
    lines.append(f"IMPLEMENTATION {offer.implementation}")
    return ("+OK\r\n" + "\r\n".join(lines) + "\r\n.\r\n").encode()


def stuffed(raw: bytes) -> bytes:
    """A message as a multi-line response: dots doubled, ended by a line with one dot (RFC 1939 §3)."""
    body = raw.replace(b"\r\n.", b"\r\n..") if b"\r\n." in raw else raw
    if body.startswith(b"."):
        body = b"." + body
    return body + (b".\r\n" if not body or body.endswith(b"\r\n") else b"\r\n.\r\n")


def top(raw: bytes, lines: int) -> bytes:
    """The header section, the blank line and the first ``lines`` lines of the body."""
    at = 0 if raw.startswith(b"\r\n") else raw.find(b"\r\n\r\n") + 2
    if at == 1:
        return raw
    at += 2
    for _ in range(lines):
        end = raw.find(b"\n", at)
        if end < 0:
            return raw
        at = end + 1
    return raw[:at]


def one_line(text: str) -> bytes:
    """Text for a response line, whatever its source."""
    return text.replace("\r", " ").replace("\n", " ").encode()[:MAX_TEXT]
