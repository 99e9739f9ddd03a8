"""pipe: gives each message to a program of your own, whose exit code is its answer."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from typing import Literal

from pydantic import Field

from mailguard.plugin import Context, Envelope, Finding, Message, Options, PluginInfo, Session, hookimpl

Word = Literal["ok", "suspect", "spam", "hold", "later", "bad", "drop"]
MAX_OUTPUT = 65_536  # octets kept of what it prints
_POINTS = re.compile(r"points:\s*([+-]?\d+(?:\.\d+)?)\s*\Z", re.IGNORECASE)


class PipeOptions(Options):
    """Options of the check."""

    command: tuple[str, ...] = Field(description="the program and its arguments; no shell", min_length=1)
    exit: dict[str, Word] = Field(
        default={"0": "ok", "1": "spam", "75": "later"},
        description="exit code -> word; a code that is not here is the word `error`",
    )
    max_size: int = Field(default=20_000_000, ge=0, description="octets beyond which it is not asked")


@hookimpl
def describe() -> PluginInfo:
    return PluginInfo(
        "pipe",
        summary="What does a program of our own say?",
        words={
            "ok": "accept",
            "suspect": "score 2",
            "spam": "junk",
            "hold": "quarantine",
            "later": "defer",
            "bad": "reject",
            "drop": "discard",
        },
        options=PipeOptions,
        network=True,
    )


@hookimpl
def check_message(ctx: Context[PipeOptions], session: Session, envelope: Envelope, message: Message) -> Finding | None:
    if len(message) > ctx.options.max_size:
        return None
    code, output = _run(ctx, _environment(ctx, session, envelope), bytes(message))
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines() if line.strip()]
    points = [float(match[1]) for line in lines if (match := _POINTS.match(line))]
    said = [line for line in lines if not _POINTS.match(line)]
    word = ctx.options.exit.get(str(code))
    if word is None:
        raise OSError(f"{ctx.options.command[0]} ended with {code}: {said[0][:200] if said else 'no output'}")
    return Finding(
        word, said[0][:300] if said else "", " / ".join(said[1:])[:1000], points=sum(points), facts={"exit": code}
    )


def _environment(ctx: Context[PipeOptions], session: Session, envelope: Envelope) -> dict[str, str]:
    told = {
        "ID": envelope.id,
        "HOSTNAME": ctx.hostname,
        "CLIENT": session.peer_ip,
        "PTR": session.ptr,
        "HELO": session.helo,
        "USER": session.user,
        "SENDER": envelope.reverse_path,
        "RECIPIENTS": " ".join(str(recipient.address) for recipient in envelope.recipients),
    }
    path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    known = {f"MAILGUARD_{name}": value.replace("\0", "") for name, value in told.items()}
    return {"PATH": path, "LANG": "C.UTF-8", "HOME": str(ctx.state_dir), **known}


def _run(ctx: Context[PipeOptions], environment: dict[str, str], octets: bytes) -> tuple[int, bytes]:
    """Exit code and output; the program and all it started are killed at the deadline. Raises OSError."""
    process = subprocess.Popen(
        ctx.options.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ctx.state_dir,
        env=environment,
        start_new_session=True,
    )
    with process:
        try:
            output, _ = process.communicate(octets, timeout=ctx.deadline * 0.95)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{ctx.options.command[0]} did not end in time") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output[:MAX_OUTPUT]
