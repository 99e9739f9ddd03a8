"""LIST and LSUB over an account's mailboxes (RFC 9051 §6.3.9, RFC 5258, RFC 5819, RFC 6154)."""

from __future__ import annotations

import contextlib

from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.listing import Line, List, Name, answer
from mailguard.protocol.imap.response import list_line
from mailguard.protocol.imap.text import quoted
from mailguard.server.imap_client import Client, Handler
from mailguard.server.imap_mailboxes import status_answer
from mailguard.store.account import SEPARATOR


def list_(client: Client, command: List) -> None:
    """LIST and LSUB."""
    verb = b"LSUB" if command.lsub else b"LIST"
    if command.patterns == ("",) and not command.extended:
        # Asks for the separator and the root of the reference (RFC 9051 §6.3.9).
        client.send(list_line(verb, b'""', ("\\Noselect",), SEPARATOR))
        return
    for line in answer(command, names(client), separator=SEPARATOR):
        info = " ".join(quoted(word.encode()).decode() for word in line.child_info)
        extended = f' ("CHILDINFO" ({info}))'.encode() if info else b""
        client.send(list_line(verb, client.printed(line.name.name), line.attributes, SEPARATOR, extended))
        if command.status and line.name.exists:
            _status(client, command, line)


def _status(client: Client, command: List, line: Line) -> None:
    with contextlib.suppress(CommandError):  # gone meanwhile: then no STATUS (RFC 5819 §2)
        client.send(status_answer(client, line.name.name, command.status))


def names(client: Client) -> list[Name]:
    """Every name LIST can show: mailboxes, names above them, and names subscribed to that are gone."""
    found = [
        Name(info.name, info.exists, True, info.subscribed, info.has_children, info.special_use)
        for info in client.store.listing()
    ]
    known = {name.name for name in found}
    gone = [Name(name, exists=False, subscribed=True) for name in client.store.subscriptions() if name not in known]
    return [*found, *gone]


HANDLERS: dict[str, Handler] = {"LIST": list_, "LSUB": list_}
