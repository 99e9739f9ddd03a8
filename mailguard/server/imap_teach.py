"""What a user does with mail teaches the spam filter: moves into Junk and out of it, marks and answers are told."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from mailguard.model.event import Event, Flagged, Moved
from mailguard.protocol.imap.change import Store
from mailguard.server.imap_client import Client, Selected
from mailguard.store.mailbox import Mailbox
from mailguard.store.snapshot import ExpungedError, StoreResult
from mailguard.store.subscription import read_uses

MOST = 1_000  # messages of one command that are told of
FEW = 20  # messages marked or filed at once that were looked at one by one, by a person
_JUDGING = frozenset(("$junk", "$notjunk", "junk", "nonjunk", "notjunk"))
_MARKING = frozenset(("\\answered", "\\flagged", "$forwarded"))
_ID = re.compile(rb"^X-Mailguard:[^\n]*?\bid=([^;\s]+)", re.M | re.I)


def moved(client: Client, source: str, target: Mailbox, uids: Sequence[int]) -> None:
    """Messages came from ``source`` (``""``: from outside) to ``target``, where they have these UIDs."""
    uses = read_uses(client.store.root)
    move = Moved(
        client.now(), "", client.account.key, source, target.name, "", uses.get(source, ""), uses.get(target.name, "")
    )
    if not move.says and not (move.filed and len(uids) <= FEW):
        return
    for uid in uids[:MOST]:
        if (path := _path(target, uid)) is not None:
            client.emit(replace(move, id=_id(path), path=path))


def flagged(client: Client, selected: Selected, before: int, command: Store, result: StoreResult) -> None:
    """Flags were changed; ``before`` is the highest MODSEQ of the time before."""
    fresh = [uid for uid, _, modseq in result.changed if modseq > before]
    telling = _JUDGING | _MARKING if len(fresh) <= FEW else _JUDGING
    told = tuple(flag for flag in command.flags if flag.lower() in telling)
    if not told:
        return
    added, removed = ((), told) if command.mode == "-" else (told, ())
    for uid in fresh[:MOST]:
        if (path := _path(selected.mailbox, uid)) is not None:
            event: Event = Flagged(
                client.now(), _id(path), client.account.key, selected.mailbox.name, path, added, removed
            )
            client.emit(event)


def _path(mailbox: Mailbox, uid: int) -> str | None:
    try:
        return str(mailbox.file(uid))
    except ExpungedError:
        return None


def _id(path: str) -> str:
    """The id under which we took the message in, ``""`` for one that we did not."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            found = _ID.search(file.read(4096))
    except OSError:
        return ""
    return found[1].decode("ascii", "replace") if found else ""
