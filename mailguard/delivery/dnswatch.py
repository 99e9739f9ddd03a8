"""The daily look at our DNS: postmaster hears of what has changed, and of nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mailguard.delivery.dnscheck import Checked, State

Summary = Mapping[str, list[str]]
"""Subject -> state and cure, as remembered from one day to the next."""


def summary(found: Sequence[Checked], before: Summary | None = None) -> dict[str, list[str]]:
    """What to remember. Where there was no answer the verdict from ``before`` still stands."""
    kept: dict[str, list[str]] = {}
    for checked in found:
        if checked.state is not State.UNKNOWN:
            kept[checked.subject] = [checked.state.value, checked.cure]
        elif before and checked.subject in before:
            kept[checked.subject] = before[checked.subject]
    return kept


def changes(found: Sequence[Checked], before: Summary | None) -> list[str]:
    """What to tell: on the first day all that is wrong, later what is no longer as it was."""
    lines: list[str] = []
    for checked in found:
        was = before.get(checked.subject, ["ok", ""])[0] if before is not None else "ok"
        now = checked.state.value
        if checked.state is State.UNKNOWN or now == was:
            continue
        if before is None and not checked.failed:
            continue
        lines.append(f"{checked.subject}: {now}" + (f" (was {was})" if before is not None else ""))
        if checked.found:
            lines.append(f"    found: {', '.join(checked.found)[:300]}")
        if checked.cure:
            lines.append(f"    cure:  {checked.cure}")
    return lines


def told(lines: Sequence[str], hostname: str) -> tuple[str, list[str]]:
    """Subject and text of the letter to postmaster."""
    count = sum(not line.startswith(" ") for line in lines)
    subject = f"DNS of {hostname}: {count} {'change' if count == 1 else 'changes'}"
    text = [
        "The daily look at what we publish has found something that was not so before:",
        "",
        *lines,
        "",
        "`mailguard dns check` looks again, `mailguard dns show` prints what should be there.",
        "`dns_check.daily = false` in mailguard.toml ends these letters.",
    ]
    return subject, text


def watch(found: Sequence[Checked], store: Any) -> list[str]:
    """Compares with what ``store`` (a key-value store) remembers, remembers the new; returns what to tell."""
    before: Summary | None = store.get("summary")
    lines = changes(found, before)
    store.put("summary", summary(found, before))
    return lines
