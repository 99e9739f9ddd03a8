"""What people do with their mail, and what it says: junk, wanted, or nothing."""

from __future__ import annotations

from mailguard.plugin import Flagged, Moved

JUNK, WANTED = 1, 0

_JUNK_BOXES = frozenset({"junk", "spam"})
_HELD = frozenset({"quarantine"})  # released by the postmaster
_TRASH_BOXES = frozenset({"trash", "deleted", "deleted items", "deleted messages", "papierkorb"})
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
    source, target = _leaf(event.source), _leaf(event.target)
    if target in _JUNK_BOXES:
        return None if source in _JUNK_BOXES else JUNK
    held = source in _JUNK_BOXES or source == "quarantine"  # released by the postmaster
    return WANTED if held and target not in _TRASH_BOXES else None


def kept(event: Moved | Flagged) -> bool:
    """Whether an act shows that a message was wanted without calling it so: answered, marked, forwarded, filed."""
    if isinstance(event, Flagged):
        return bool(_KEPT_FLAGS & {flag.lower() for flag in event.added})
    source, target = _leaf(event.source), _leaf(event.target)
    return source == "inbox" and target not in _JUNK_BOXES | _TRASH_BOXES


def origin_of(event: Moved | Flagged) -> str:
    """By what it was said, in the journal's words."""
    if isinstance(event, Flagged):
        return "flag"
    return "release" if event.source.lower() in _HELD else "move"


def _leaf(mailbox: str) -> str:
    name = mailbox.lower().replace("/", ".")
    return name.removeprefix("inbox.")
