"""clamav: asks a running clamd whether the message carries a known virus (INSTREAM)."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator

from pydantic import Field

from mailguard.plugin import Context, Finding, Message, Options, Place, PluginInfo, Talk, hookimpl

_CHUNK = 1 << 17


class ClamavOptions(Options):
    """Options of the check."""

    address: Place = Field(
        default="/run/clamav/clamd.ctl", description="where clamd listens: a socket's path or host:port"
    )
    max_size: int = Field(default=25_000_000, ge=0, description="octets beyond which it is not asked (StreamMaxLength)")


@hookimpl
def describe() -> PluginInfo:
    return PluginInfo(
        "clamav",
        summary="Does ClamAV know a virus in it?",
        words={"clean": "accept", "infected": "reject", "suspect": "quarantine", "too-large": "accept"},
        options=ClamavOptions,
        network=True,
        explain={
            "infected": "it carries a known virus",
            "suspect": "it looks like one (PUA and Heuristics signatures)",
            "too-large": "it is larger than may be asked about; nobody looked",
        },
    )


@hookimpl
def check_message(ctx: Context[ClamavOptions], message: Message) -> Finding:
    if len(message) > ctx.options.max_size:
        return Finding("too-large", "the message is too large for the virus check")
    with Talk(ctx.options.address, ctx.deadline * 0.95) as talk:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it had enough, and says so below
            talk.send(b"zINSTREAM\0", *_framed(message), b"\0\0\0\0")
        try:
            answer = talk.read_until(b"\0").decode("utf-8", "replace").strip()
        except ConnectionResetError:
            answer = "size limit exceeded"
    return _finding(answer)


def _framed(message: Message) -> Iterator[bytes]:
    for part in message.chunks():
        view = memoryview(part)
        for start in range(0, len(view), _CHUNK):
            chunk = view[start : start + _CHUNK]
            yield struct.pack("!I", len(chunk)) + bytes(chunk)


def _finding(answer: str) -> Finding:
    verdict = answer.removeprefix("stream:").strip()
    if verdict == "OK":
        return Finding("clean", "no known virus")
    if verdict.endswith(" FOUND"):
        name = verdict.removesuffix(" FOUND")
        doubtful = name.startswith(("PUA.", "Heuristics."))
        reason = f"it {'looks like' if doubtful else 'carries'} the virus {name}"
        return Finding("suspect" if doubtful else "infected", reason, facts={"virus": name})
    if "size limit exceeded" in verdict:
        return Finding("too-large", "the message is too large for the virus check", verdict)
    raise OSError(f"clamd says: {answer or 'nothing'}")
