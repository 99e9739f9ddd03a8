"""CATENATE: a new message put together from new text and parts of messages that are here already (RFC 4469)."""

from __future__ import annotations

from mailguard.protocol.imap.append import Upload
from mailguard.protocol.imap.lexer import CommandError
from mailguard.protocol.imap.section import octets
from mailguard.protocol.imap.url import Url, bad_url
from mailguard.server.imap_client import Client
from mailguard.store.snapshot import ExpungedError


def assembled(client: Client, upload: Upload) -> bytes:
    """The octets of a message in the order of its pieces. Raises CommandError (NO [BADURL] or [TOOBIG])."""
    found: list[bytes] = []
    left = client.session.offer.append_limit
    for piece in upload.pieces:
        found.append(_octets(client, piece) if isinstance(piece, Url) else piece)
        left -= len(found[-1])
        if left < 0:
            raise CommandError("the message put together is too long", status="NO", code="TOOBIG")
    return b"".join(found)


def _octets(client: Client, url: Url) -> bytes:
    try:
        mailbox = client.mailbox(url.mailbox) if url.mailbox else client.selected.mailbox
        if url.uid_validity not in (0, mailbox.uid_validity()):
            raise bad_url(url.text, "is of a mailbox that was here before")
        found = octets(mailbox.raw(url.uid), url.section)
    except ExpungedError:
        raise bad_url(url.text, "is of a message that is not there") from None
    except CommandError as error:
        raise error if error.code.startswith("BADURL") else bad_url(url.text, f"leads nowhere: {error}") from None
    if found is None:
        raise bad_url(url.text, "is of a part that is not there")
    return found
