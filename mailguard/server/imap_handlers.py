"""Every command's handler, and what they make possible."""

from __future__ import annotations

from mailguard.server import (
    imap_append,
    imap_change,
    imap_fetch,
    imap_list,
    imap_mailboxes,
    imap_metadata,
    imap_notify,
    imap_quota,
    imap_search,
)
from mailguard.server.imap_client import Client, Handler

CAPABILITIES: tuple[str, ...] = (
    "IDLE", "NAMESPACE", "CHILDREN", "UIDPLUS", "MOVE", "UNSELECT", "SPECIAL-USE", "LIST-EXTENDED", "LIST-STATUS",
    "STATUS=SIZE", "ESEARCH", "SEARCHRES", "WITHIN", "PARTIAL", "BINARY", "MULTIAPPEND", "SORT", "SORT=DISPLAY",
    "ESORT", "THREAD=ORDEREDSUBJECT", "THREAD=REFERENCES", "PREVIEW", "SAVEDATE", "CONDSTORE", "QRESYNC",
    "UTF8=ACCEPT", "OBJECTID", "REPLACE", "COMPRESS=DEFLATE", "INPROGRESS", "IMAP4rev2", "CREATE-SPECIAL-USE",
    "QUOTA", "QUOTA=RES-STORAGE", "QUOTA=RES-MESSAGE", "METADATA", "NOTIFY", "ACL", "RIGHTS=texk",
    "CONTEXT=SEARCH", "CATENATE",
)  # fmt: skip
"""What is offered after sign-in."""


def _nothing(_client: Client, _arguments: None) -> None:
    """NOOP, CHECK, IDLE: what is to be told is told after every command."""


HANDLERS: dict[str, Handler] = {
    "NOOP": _nothing,
    "CHECK": _nothing,
    "IDLE": _nothing,
    **imap_mailboxes.HANDLERS,
    **imap_list.HANDLERS,
    **imap_append.HANDLERS,
    **imap_fetch.HANDLERS,
    **imap_change.HANDLERS,
    **imap_search.HANDLERS,
    **imap_quota.HANDLERS,
    **imap_metadata.HANDLERS,
    **imap_notify.HANDLERS,
}

KEEPS_NUMBERS = frozenset(("FETCH", "STORE", "SEARCH", "SORT", "THREAD"))
"""Commands during which no message number may change (RFC 9051 §5.5, §7.5.1)."""
