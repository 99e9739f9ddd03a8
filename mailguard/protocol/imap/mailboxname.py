"""Mailbox names: modified UTF-7 (RFC 3501 §5.1.3) and the wildcards of LIST (RFC 9051 §6.3.9)."""

from __future__ import annotations

import binascii
import re


def encode_name(name: str) -> str:
    """Unicode to modified UTF-7."""
    out: list[str] = []
    for plain, other in re.findall(r"([\x20-\x7e]+)|([^\x20-\x7e]+)", name):
        if plain:
            out.append(plain.replace("&", "&-"))
        else:
            coded = binascii.b2a_base64(other.encode("utf-16-be"), newline=False).decode("ascii")
            out.append("&" + coded.rstrip("=").replace("/", ",") + "-")
    return "".join(out)


def decode_name(name: str) -> str:
    """Modified UTF-7 to Unicode. Raises ValueError for what is none."""

    def part(match: re.Match[str]) -> str:
        coded = match[1]
        if not coded:
            return "&"
        octets = binascii.a2b_base64(coded.replace(",", "/") + "=" * (-len(coded) % 4))
        return octets.decode("utf-16-be")

    if not name.isascii() or name.count("&") != len(re.findall(r"&[A-Za-z0-9+,]*-", name)):
        raise ValueError(f"{name!r} is not modified UTF-7")
    try:
        return re.sub(r"&([A-Za-z0-9+,]*)-", part, name)
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError(f"{name!r} is not modified UTF-7") from None


def pattern(reference: str, mailbox: str, *, separator: str = "/") -> re.Pattern[str]:
    """A LIST pattern as a regular expression: ``*`` is anything, ``%`` stops at the separator; INBOX in any case."""
    text = reference + mailbox
    stop = f"[^{re.escape(separator)}]*"
    made = "".join(".*" if c == "*" else stop if c == "%" else re.escape(c) for c in text)
    if text[:5].upper() == "INBOX" and text[5:6] in ("", separator, "*", "%"):
        made = "(?i:INBOX)" + made[5:]
    return re.compile(made + r"\Z", re.DOTALL)
