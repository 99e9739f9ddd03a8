"""Header fields that the pipeline puts on top: X-Mailguard, and what plugins want there."""

from __future__ import annotations

import re

from mailguard.model.authresult import authserv_id
from mailguard.pipeline.verdict import Verdict

_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}\Z")
_LINE = 77  # characters
_FOLDED = re.compile(r"[^\r\n\0]{1,990}(?:\r?\n[ \t]+[^\s\0][^\r\n\0]{0,980})+\s*\Z")


def summary_field(id: str, verdict: Verdict) -> bytes:
    """The X-Mailguard field: id, action, score, and the three heaviest reasons."""
    reasons = ", ".join(f"{text[:60]} {value:+.1f}" for value, text in verdict.reasons[:3])
    would = f" would={verdict.would.value};" if verdict.would is not verdict.action else ""
    value = f"id={id}; action={verdict.action.value};{would} score={verdict.score:.1f}; by={verdict.decision.source}"
    value += f";\r\n\treasons={_one_line(reasons)}" if reasons else ""
    return f"X-Mailguard: {value}\r\n".encode("ascii", "replace")


def header_field(name: str, value: str) -> bytes:
    """A field of a plugin as octets, non-ASCII replaced; as it is folded already, else folded at spaces; empty if
    the name is none."""
    if not _FIELD_NAME.match(name):
        return b""
    if _FOLDED.match(value):
        blank = "" if value[0].isspace() else " "
        text = re.sub(r"\r?\n", "\r\n", f"{name}:{blank}{value.rstrip()}")
        return text.encode("ascii", "replace") + b"\r\n"
    lines, left = [], f"{name}: {_one_line(value)}"
    while len(left) > _LINE:
        at = left.rfind(" ", 1, _LINE + 1)
        if at < 0 and (at := left.find(" ", _LINE + 1)) < 0:
            break
        lines.append(left[:at])
        left = f"\t{left[at + 1 :]}"
    return "\r\n".join([*lines, left]).encode("ascii", "replace") + b"\r\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def claims_results(hostname: str, name: str, value: str) -> bool:
    """Whether a plugin's field would be an Authentication-Results field in our own name."""
    # One Authentication-Results of ours is enough (RFC 8601 §5): plugins add theirs by their findings.
    return name.lower() == "authentication-results" and authserv_id(value) in (hostname.lower(), "")
