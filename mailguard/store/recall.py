"""What the uidlist says; where it is torn, old or gone, what the index remembers of it."""

from __future__ import annotations

import os
import sqlite3
from operator import attrgetter
from pathlib import Path

from mailguard.store import maildir, uidlist
from mailguard.store.forget import forget_mailbox
from mailguard.store.inventory import plain
from mailguard.store.lock import Tell
from mailguard.store.numbering import Numbering
from mailguard.store.settle import base_of
from mailguard.store.standing import State, first_modseq, insert_state
from mailguard.store.uidlist import Record, Uidlist, UidlistError


class Recalling(Numbering):
    """Reads the uidlist of a mailbox called ``name``, and mends it."""

    def __init__(self, db: sqlite3.Connection, path: str, name: str, host: str, tell: Tell) -> None:
        super().__init__(db, path, host, tell)
        self._name = name

    def _new_state(self, listed: Uidlist) -> State:
        start = first_modseq(self._path)
        state = State(0, self._name, listed.guid, listed.uid_validity, listed.next_uid, start, start + 1)
        insert_state(self._db, state)
        return state

    def _read_uidlist(self, state: State | None) -> tuple[State, dict[str, Record]]:
        """The state under the UIDVALIDITY of the list, and the list's records by base name."""
        listed, sound = self._uidlist(state)
        if state is not None and self._outdated(state, listed.uid_validity):
            state = None
        if state is None:
            state = self._new_state(listed)
        if not sound or listed.next_uid < state.next_uid:
            if sound:
                self._tell("dovecot-uidlist is older than what was told to mail programs: its next UID is raised")
            listed.next_uid = max(listed.next_uid, state.next_uid)
            uidlist.write_uidlist(Path(self._path), listed)
        state.guid, state.next_uid, state.listed = listed.guid, listed.next_uid, len(listed.records)
        return state, {record.base: record for record in listed.records}

    def _outdated(self, state: State, uid_validity: int) -> bool:
        """Whether this is the state under another UIDVALIDITY; then it is forgotten."""
        if state.uid_validity == uid_validity:
            return False
        validities = {"before": state.uid_validity, "now": uid_validity}
        self._tell("another UIDVALIDITY: mail programs load this mailbox again", **validities)
        forget_mailbox(self._db, state.id)
        return True

    def _replaced(self, state: State) -> bool:
        """Whether another Maildir took the place of the one that was looked at; then its state is forgotten."""
        if self._before.uidlist == state.uidlist:
            return False
        try:
            listed = uidlist.headed(self._path)
            if listed is not None and listed.uid_validity != state.uid_validity:
                listed = uidlist.skim(Path(self._path))
        except UidlistError:
            return False
        return listed is not None and not listed.torn and self._outdated(state, listed.uid_validity)

    def _uidlist(self, state: State | None) -> tuple[Uidlist, bool]:
        """The list, and whether it may stay as it is."""
        try:
            listed = uidlist.read_uidlist(Path(self._path))
        except UidlistError as error:
            wrong, facts = "dovecot-uidlist cannot be read", {"reason": str(error)}
        else:
            if listed is not None:
                if listed.torn:
                    kept = self._fill_in(listed, state)
                    text = "dovecot-uidlist was torn or old and is mended"
                    self._tell(text, next_uid=listed.next_uid, taken_from_index=kept)
                return listed, not listed.torn
            wrong, facts = "dovecot-uidlist is gone", {}
        if state is not None:
            records = self._recall(state)
            names = {base_of(name) for name in os.listdir(f"{self._path}/cur")}
            if any(record.base in names for record in records):
                self._tell(f"{wrong}: UIDVALIDITY and UIDs are those that the index knows", **facts, uids=len(records))
                return Uidlist(state.uid_validity, state.next_uid + uidlist.GAP, state.guid, records), False
        if state is not None or facts:
            self._tell(f"{wrong} and is made anew", **facts)
        return Uidlist.fresh(uidlist.fresh_validity(self._path, state.uid_validity if state else 0)), False

    def _recall(self, state: State) -> list[Record]:
        """What the uidlist said when we looked last. A UID is a message's own as long as its UIDVALIDITY holds, so
        that this is right whatever others did since: what they numbered counts as gone, and gets UIDs that nobody
        gave yet."""
        query = "SELECT id, name, size, guid, uidl FROM message WHERE id BETWEEN ? AND ? ORDER BY id"
        records = []
        for id, kept, size, guid, uidl in self._db.execute(query, (state.first, state.last)):
            name = plain(kept)
            wire = f"W{size}" if size > 0 and maildir.stated_size(name) is None else ""
            fields = (wire, f"G{plain(guid)}" if guid else "", f"P{uidl}" if uidl else "")
            records.append(Record(id - state.first, name, tuple(filter(None, fields))))
        return records

    def _fill_in(self, listed: Uidlist, state: State | None) -> int:
        """Adds to a torn list the messages that only the index knows; returns how many."""
        if state is None or state.uid_validity != listed.uid_validity:
            return 0
        known = self._recall(state)
        if listed.records and any(
            each.uid == listed.records[-1].uid and each.name.startswith(listed.records[-1].name) for each in known
        ):
            listed.records.pop()  # its name may be cut off
        bases, uids = {each.base for each in listed.records}, {each.uid for each in listed.records}
        lost = [each for each in known if each.base not in bases and each.uid not in uids]
        listed.records = sorted([*listed.records, *lost], key=attrgetter("uid"))
        return len(lost)
