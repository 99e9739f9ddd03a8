"""The hash of a message body in DKIM's canonical forms, computed without copying large bodies (RFC 6376 §3.4)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

_CHUNK = 1 << 20
_TAIL = 1 << 16  # even, so that no CRLF is cut in two


def body_hash(body: memoryview | bytes, *, relaxed: bool, limit: int = -1) -> tuple[bytes, bool]:
    """The SHA-256 of a canonical body (RFC 6376 §3.4.3, §3.4.4) and whether ``limit`` octets (``l=``) cut it."""
    view = memoryview(body)
    end = _content_end(view, b" \t\r\n" if relaxed else b"\r\n", relaxed)
    hasher = hashlib.sha256()
    written = 0
    for block in _blocks(view[:end]):
        written += _feed(hasher, _relax(block) if relaxed else block, written, limit)
    if end or not relaxed:
        # The last line's end stays; an empty body is CRLF in simple form and nothing in relaxed form.
        written += _feed(hasher, b"\r\n", written, limit)
    return hasher.digest(), 0 <= limit < written


def _feed(hasher: Any, data: bytes, written: int, limit: int) -> int:
    hasher.update(data if limit < 0 else data[: max(0, limit - written)])
    return len(data)


def _content_end(view: memoryview, blank: bytes, relaxed: bool) -> int:
    # Many octets in one step: a message may consist of nothing else.
    end = len(view)
    while end:
        piece = bytes(view[max(0, end - _TAIL) : end])
        tail = piece[len(piece.rstrip(blank)) :]
        cut = len(tail) if relaxed else _line_ends(tail)
        end -= cut
        if cut < len(piece):
            break
    return end


def _line_ends(tail: bytes) -> int:
    """How many octets of CRLF CRLF... stand at the end of these CRs and LFs."""
    if not tail.endswith(b"\r\n"):
        return 0
    count = len(tail) - 1 - max(tail.rfind(b"\r\r"), tail.rfind(b"\n\n"))
    return count - count % 2


def _blocks(view: memoryview) -> Iterator[bytes]:
    start = 0
    while start < len(view):
        block = bytes(view[start : start + _CHUNK])
        if start + _CHUNK < len(view):
            # White space is folded across no block: cut after a line end, or anywhere in a line without one.
            block = block[: block.rfind(b"\r\n") + 2] if b"\r\n" in block else block
        yield block
        start += len(block)


def _relax(block: bytes) -> bytes:
    if b"\t" in block:
        block = block.replace(b"\t", b" ")
    while b"  " in block:
        block = block.replace(b"  ", b" ")
    return block.replace(b" \r\n", b"\r\n")
