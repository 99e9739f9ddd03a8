"""GETMETADATA and SETMETADATA (RFC 5464)."""

from __future__ import annotations

from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.metadata import INFINITY, GetMetadata, SetMetadata
from mailguard.protocol.imap.text import astring, literal, quoted
from mailguard.server.imap_client import Client, Done, Handler
from mailguard.store.annotation import AnnotationLimitError, Annotations


def get(client: Client, command: GetMetadata) -> Done:
    """GETMETADATA: what is not there is NIL where it was asked for by its own name."""
    place, inner = _place(client, command.mailbox)
    entries = place.of(inner)
    found: dict[str, bytes | None] = {}
    longest = 0
    for wanted in command.entries:
        if command.depth == 0 and wanted not in entries:
            found[wanted] = None
        for name, value in entries.items():
            if not _within(name, wanted, command.depth):
                continue
            if command.max_size is not None and len(value) > command.max_size:
                longest = max(longest, len(value))
            else:
                found[name] = value
    if found:
        pairs = b" ".join([b"%b %b" % (astring(name.encode()), _printed(value)) for name, value in found.items()])
        mailbox = client.printed(command.mailbox) if command.mailbox else b'""'
        client.send(b"* METADATA %b (%b)\r\n" % (mailbox, pairs))
    return Done(code=f"METADATA LONGENTRIES {longest}" if longest else "")


def _printed(value: bytes | None) -> bytes:
    if value is None:
        return b"NIL"
    return b"~" + literal(value) if b"\0" in value else quoted(value)


def _within(name: str, wanted: str, depth: int) -> bool:
    if name == wanted:
        return True
    if depth == 0 or not name.startswith(wanted + "/"):
        return False
    return depth == INFINITY or "/" not in name[len(wanted) + 1 :]


def _place(client: Client, mailbox: str) -> tuple[Annotations, str]:
    """Where a mailbox's metadata lies, and under which name. Raises CommandError where there is no such mailbox."""
    if mailbox:
        client.mailbox(mailbox)
    if shared := client.store.shares.find(mailbox):
        return Annotations(shared[0].root), shared[1]
    return Annotations(client.store.root), mailbox


def set_(client: Client, command: SetMetadata) -> None:
    """SETMETADATA: all entries or none."""
    place, name = _place(client, command.mailbox)
    if not command.mailbox and any(entry.startswith("/shared/") for entry, _ in command.entries):
        raise CommandError("what the server says of itself is not for users to change", status="NO", code="NOPERM")
    if command.mailbox:
        client.demand(command.mailbox, "w")
    try:
        place.change(name, command.entries)
    except AnnotationLimitError as error:
        code = f"METADATA MAXSIZE {error.size}" if error.size else "METADATA TOOMANY"
        raise CommandError(str(error), status="NO", code=code) from None


HANDLERS: dict[str, Handler] = {"GETMETADATA": get, "SETMETADATA": set_}
