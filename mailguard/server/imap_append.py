"""APPEND and REPLACE (RFC 9051 §6.3.12, RFC 3502, RFC 8508)."""

from __future__ import annotations

from mailguard.model.recode import as_text
from mailguard.protocol.imap.append import Append, Replace, Upload
from mailguard.protocol.imap.change import settable
from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.sequence import render_set
from mailguard.server.imap_catenate import assembled
from mailguard.server.imap_client import Client, Done, Handler
from mailguard.server.imap_teach import moved
from mailguard.store.mailbox import Mailbox, with_crlf
from mailguard.store.snapshot import KeywordLimitError, NewMessage, NoSuchMailboxError


def append(client: Client, command: Append) -> Done:
    """APPEND: all messages or none."""
    if not command.uploads:
        raise CommandError("cancelled by an empty message", status="NO")
    mailbox = client.mailbox(command.mailbox, "TRYCREATE")
    return Done("appended", _code("APPENDUID", mailbox, upload(client, mailbox, command)))


def upload(client: Client, mailbox: Mailbox, command: Append) -> list[int]:
    """Stores the messages of the command; their UIDs. Raises CommandError."""
    messages = [NewMessage((_octets(client, u),), _flags(u.flags), u.date) for u in command.uploads]
    try:
        uids = mailbox.append(messages)
    except KeywordLimitError as error:
        raise CommandError(str(error), status="NO", code="LIMIT") from None
    except NoSuchMailboxError as error:
        raise CommandError(str(error), status="NO", code="TRYCREATE") from None
    moved(client, "", mailbox, uids)
    return uids


def _octets(client: Client, upload: Upload) -> bytes:
    # 8-bit header fields are taken from clients that did not enable UTF-8, too, against RFC 9755 §4: one old message in
    # thirty has them, and a client that copies a mailbox would stop there.
    data = assembled(client, upload) if upload.pieces else upload.data
    return with_crlf(as_text(data) if upload.binary else data)


def _flags(flags: tuple[str, ...]) -> tuple[str, ...]:
    # \Recent is silently dropped: old clients send back what FETCH told them.
    return settable([flag for flag in flags if flag.lower() != "\\recent"])


def _code(name: str, mailbox: Mailbox, uids: list[int]) -> str:
    return f"{name} {mailbox.uid_validity()} {render_set(uids)}"


def replace(client: Client, command: Replace) -> Done:
    """REPLACE: the new message first, then the old one goes (RFC 8508 §3.4)."""
    selected = client.writable
    view = selected.view
    if command.append.uploads[0].empty:
        raise CommandError("an empty message replaces nothing", status="NO")
    uid = command.number if command.uid else (view.uids[command.number - 1 : command.number] or [0])[0]
    if command.number == 0:
        uid = view.last
    if not view.number(uid):
        raise CommandError("there is no such message", status="NO" if command.uid else "BAD")
    target = client.mailbox(command.append.mailbox, "TRYCREATE")
    code = _code("APPENDUID", target, upload(client, target, command.append))
    client.send(f"* OK [{code}] the new message is there\r\n".encode())
    selected.mailbox.remove([uid])
    return Done("replaced")


HANDLERS: dict[str, Handler] = {"APPEND": append, "REPLACE": replace, "UID REPLACE": replace}
