"""STORE, COPY, MOVE and EXPUNGE (RFC 9051 §6.4.3 to §6.4.8, RFC 4315, RFC 6851, RFC 7162)."""

from __future__ import annotations

from mailguard.protocol.imap.arguments import Expunge
from mailguard.protocol.imap.change import Copy, Store
from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.sequence import render_set
from mailguard.server.imap_client import Client, Done, Handler
from mailguard.server.imap_teach import flagged, moved
from mailguard.store.snapshot import KeywordLimitError


def store(client: Client, command: Store) -> Done:
    """STORE."""
    selected = client.writable
    if command.unchanged_since is not None:
        client.enable_condstore()
    uids = selected.resolve(command.set, command.uid)
    before = selected.view.modseq
    try:
        result = selected.mailbox.store(uids, command.mode, command.flags, unchanged_since=command.unchanged_since)
    except KeywordLimitError as error:
        raise CommandError(str(error), status="NO", code="LIMIT") from None
    # Silent or not, the new MODSEQ is told (RFC 7162 §3.1.3).
    client.tell_flags(result.changed, silent=command.silent, only=command.silent and client.condstore)
    flagged(client, selected, before, command, result)
    if result.modified:
        numbers = result.modified if command.uid else selected.view.numbers(result.modified)
        return Done("some had changed", f"MODIFIED {render_set(numbers)}")
    return Done()


def copy(client: Client, command: Copy) -> Done:
    """COPY: all or nothing."""
    selected = client.selected
    target = client.mailbox(command.mailbox, "TRYCREATE")
    uids = selected.resolve(command.set, command.uid)
    if not uids:
        return Done("nothing to copy")
    pairs = selected.mailbox.copy(uids, target)
    moved(client, selected.mailbox.name, target, [new for _, new in pairs])
    return Done("copied", _copy_code(target.uid_validity(), pairs)) if pairs else Done("they are gone")


def move(client: Client, command: Copy) -> Done:
    """MOVE: COPYUID comes before the messages go (RFC 6851 §4.3)."""
    selected = client.writable
    target = client.mailbox(command.mailbox, "TRYCREATE")
    uids = selected.resolve(command.set, command.uid)
    pairs = selected.mailbox.move(uids, target) if uids else []
    if not pairs:
        return Done("nothing to move")
    moved(client, selected.mailbox.name, target, [new for _, new in pairs])
    client.send(f"* OK [{_copy_code(target.uid_validity(), pairs)}] moved\r\n".encode())
    return _removed(client)


def _copy_code(uid_validity: int, pairs: list[tuple[int, int]]) -> str:
    return f"COPYUID {uid_validity} {render_set(old for old, _ in pairs)} {render_set(new for _, new in pairs)}"


def expunge(client: Client, command: Expunge) -> Done:
    """EXPUNGE, or UID EXPUNGE of a set."""
    selected = client.writable
    if command.uid:
        selected.mailbox.expunge(selected.resolve(command.set, uid=True))
    else:
        selected.mailbox.expunge(selected.view.uids)
    return _removed(client)


def _removed(client: Client) -> Done:
    if "QRESYNC" not in client.session.enabled:
        return Done()
    client.sync()
    return Done(code=f"HIGHESTMODSEQ {client.selected.view.modseq}")


HANDLERS: dict[str, Handler] = {
    "STORE": store, "UID STORE": store, "COPY": copy, "UID COPY": copy, "MOVE": move, "UID MOVE": move,
    "EXPUNGE": expunge, "UID EXPUNGE": expunge,
}  # fmt: skip
