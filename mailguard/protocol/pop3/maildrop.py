"""The maildrop of one session: a snapshot with its message numbers and deletion marks (RFC 1939 §5)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mailguard.protocol.wire import ProtocolError


@dataclass(frozen=True, slots=True)
class Entry:
    """One message: ``uid`` in the mailbox, ``size`` in octets with CRLF line ends, ``uidl`` its unique id."""

    uid: int
    size: int
    uidl: str


class Maildrop:
    """Messages are numbered from 1 and keep their numbers to the end of the session, deleted or not."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._deleted: set[int] = set()
        self._octets = sum(entry.size for entry in entries)

    def entry(self, number: int) -> Entry:
        """The message of a number; raises ProtocolError if there is none or it is marked deleted."""
        if not 1 <= number <= len(self._entries) or number in self._deleted:
            raise ProtocolError("no such message")
        return self._entries[number - 1]

    def delete(self, number: int) -> None:
        """Marks a message; raises ProtocolError."""
        self._octets -= self.entry(number).size
        self._deleted.add(number)

    def reset(self) -> None:
        """Takes every mark back."""
        self._octets += sum(self._entries[number - 1].size for number in self._deleted)
        self._deleted.clear()

    @property
    def count(self) -> int:
        """How many messages are not marked deleted."""
        return len(self._entries) - len(self._deleted)

    @property
    def octets(self) -> int:
        """The octets of the messages not marked deleted."""
        return self._octets

    @property
    def deleted(self) -> list[int]:
        """The UIDs of the messages marked deleted, ascending."""
        return [self._entries[number - 1].uid for number in sorted(self._deleted)]

    def numbered(self) -> Iterable[tuple[int, Entry]]:
        """Every message not marked deleted, with its number."""
        deleted = self._deleted
        return ((n, entry) for n, entry in enumerate(self._entries, 1) if n not in deleted)


def unique_id(uid: int, uid_validity: int) -> str:
    """The unique id of a message that has no imported one: Dovecot's ``%08Xu%08Xv``, lower case."""
    return f"{uid:08x}{uid_validity:08x}"
