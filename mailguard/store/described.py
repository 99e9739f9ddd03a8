"""Messages are read once, when somebody first asks what is in them: from then on the index knows."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from collections.abc import Iterator, Sequence

from mailguard.store import content
from mailguard.store.content import with_crlf
from mailguard.store.inventory import plain
from mailguard.store.standing import State, chosen
from mailguard.store.turn import Watched

FEW = 50
"""Messages that are looked up one by one."""

_BULK = 200  # messages described at a time, between which others have their turn


class Described(Watched):
    """A mailbox whose messages are described before they are told of."""

    def _ready(
        self, uids: Sequence[int] | None, columns: Sequence[str]
    ) -> contextlib.AbstractContextManager[tuple[sqlite3.Connection, State]]:
        if not content.TERMS.isdisjoint(columns):
            return self._described(uids, "cid = 0")
        return self._described(uids, "cid = 0 AND size < 0") if "size" in columns else self._read(fresh=False)

    @contextlib.contextmanager
    def _described(self, uids: Sequence[int] | None, lacking: str) -> Iterator[tuple[sqlite3.Connection, State]]:
        """As ``_read``, after the messages that lack something were read and described."""
        few = uids is not None and len(uids) <= FEW
        wanted = None if uids is None or few else set(uids)
        while True:
            with self._read(fresh=False) as (db, state):
                where, values = chosen(db, state, uids if few else None)
                query = f"SELECT m.id, m.name FROM message m WHERE {lacking} AND {where} ORDER BY m.id"
                found = ((id, plain(name)) for id, name in db.execute(query, values))
                if wanted is not None:
                    found = (row for row in found if row[0] - state.first in wanted)
                missing = list(itertools.islice(found, _BULK))
                if not missing:
                    yield db, state
                    return
            self._describe(missing)

    def describe_some(self, limit: int) -> int:
        """Describes up to so many messages that nobody asked for yet; returns how many."""
        with self._read() as (db, state):
            query = "SELECT id, name FROM message WHERE cid = 0 AND id BETWEEN ? AND ? ORDER BY id LIMIT ?"
            found = [(id, plain(name)) for id, name in db.execute(query, (state.first, state.last, limit))]
        if found:
            self._describe(found)
        return len(found)

    def _describe(self, messages: Sequence[tuple[int, str]]) -> None:
        """Reads messages and adds what they hold to the index; never touches a UID or a MODSEQ."""
        found, described = [], []
        for id, name in messages:
            try:
                with open(f"{self._at}/cur/{name}", "rb", buffering=0) as file:
                    raw = with_crlf(file.read())
            except FileNotFoundError:
                self._look("all")  # renamed or removed by another program
                break
            described.append(content.read(raw))
            found.append((id, len(raw)))
        with self._index.write() as db:
            content.attach(db, found, described)
