"""What FETCH, SEARCH and SORT need of messages beyond flags: columns of the index where it has them, else read anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mailguard.protocol.imap.describe import describe
from mailguard.store.mailbox import Mailbox
from mailguard.store.snapshot import ExpungedError
from mailguard.store.view import COLUMNS


def rows(mailbox: Mailbox, uids: Sequence[int], columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """These columns of these messages, by ascending UID; messages that are gone are left out."""
    if COLUMNS.issuperset(columns):
        return list(mailbox.rows(uids, columns))
    plain = [name for name in dict.fromkeys(("uid", *columns)) if name in COLUMNS]
    found: list[tuple[Any, ...]] = []
    for row in mailbox.rows(uids, plain):
        values = dict(zip(plain, row, strict=True))
        try:
            described = describe(mailbox.raw(int(row[0])))
        except ExpungedError:
            continue
        found.append(tuple(values[name] if name in values else getattr(described, name) for name in columns))
    return found
