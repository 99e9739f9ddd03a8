"""What people do with their mail, and what it says: junk, wanted, or nothing."""

from __future__ import annotations

from mailguard.plugin import Flagged, Moved

JUNK, WANTED = 1, 0

_SAYS = {"spam": JUNK, "ham": WANTED}
_SPAM_FLAGS = frozenset({"$junk", "junk"})
_HAM_FLAGS = frozenset({"$notjunk", "notjunk", "nonjunk"})
_KEPT_FLAGS = frozenset({"\\answered", "\\flagged", "$forwarded"})


def label_of(event: Moved | Flagged) -> int | None:
    """What an act says outright: JUNK, WANTED, or None."""
    if isinstance(event, Flagged):
        added, removed = ({flag.lower() for flag in flags} for flags in (event.added, event.removed))
        if added & _SPAM_FLAGS:
            return JUNK
        return WANTED if added & _HAM_FLAGS or removed & _SPAM_FLAGS else None
    return _SAYS.get(event.says)


def kept(event: Moved | Flagged) -> bool:
    """Whether an act shows that a message was wanted without calling it so: answered, marked, forwarded, filed."""
    if isinstance(event, Flagged):
        return bool(_KEPT_FLAGS & {flag.lower() for flag in event.added})
    return event.filed


def origin_of(event: Moved | Flagged) -> str:
    """By what it was said, in the journal's words."""
    if isinstance(event, Flagged):
        return "flag"
    return "release" if event.source == "Quarantine" else "move"
