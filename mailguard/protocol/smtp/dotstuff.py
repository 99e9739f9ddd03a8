"""The message as it goes over the wire (RFC 5321 §4.5.2)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_BLOCK = 1 << 18
_NO_LINE_END = bytes(set(range(256)) - {10, 13})
_LONE_CR = re.compile(rb"\r[^\n]")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def dot_stuffed(chunks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The message as it goes over the wire: canonical CRLF, dots doubled, the final dot (RFC 5321 §4.5.2).

    Bare CR or LF never leaves us, wherever the message came from (RFC 5321 §2.3.8): each becomes CRLF.
    """
    at_start, carry = True, b""
    tail = b"\r\n"
    for chunk in chunks:
        view = memoryview(chunk)
        for at in range(0, len(view), _BLOCK):
            block = carry + bytes(view[at : at + _BLOCK])
            carry = b"\r" if block.endswith(b"\r") else b""
            block = _canonical(block[: len(block) - len(carry)])
            if not block:
                continue
            stuffed = block.replace(b"\r\n.", b"\r\n..")
            yield b"." + stuffed if at_start and block[:1] == b"." else stuffed
            at_start = block.endswith(b"\r\n")
            tail = block[-2:] if len(block) > 1 else tail[-1:] + block
    if carry:
        yield b"\r\n"
        tail = b"\r\n"
    yield b".\r\n" if tail == b"\r\n" else b"\r\n.\r\n"


def _canonical(block: bytes) -> bytes:
    return block if only_crlf(block) else _BARE.sub(b"\r\n", block)


def only_crlf(octets: bytes) -> bool:
    """Whether every CR and every LF is part of a CRLF."""
    # CR and LF take turns, and LF is what comes after each CR: half of what it costs to count the three.
    ends = octets.translate(None, _NO_LINE_END)
    return ends == b"\r\n" * (len(ends) // 2) and _LONE_CR.search(octets) is None
