"""Everything IMAP will ever want to know of a message, found in one reading at delivery."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailguard.model.charset import decode_header
from mailguard.model.mime import Part, parse
from mailguard.protocol.imap.address import address_text
from mailguard.protocol.imap.bodystructure import print_structures
from mailguard.protocol.imap.envelope import addresses, print_envelope_of, text_field
from mailguard.protocol.imap.htmltext import html_text, without_title
from mailguard.protocol.imap.sort import base_subject, collation, display_key, fold, mailbox_key, sent_date

_MSGID = re.compile(rb"<([^<>\s]+)>")
_BETWEEN_IDS = re.compile(rb"[\s,;<>]+")
_INVISIBLE = dict.fromkeys((*range(32), *range(8203, 8208), 847, 173, 65279), " ")

PREVIEW_LENGTH = 200
"""Characters of a PREVIEW (RFC 8970 §3.2 allows 256)."""

MAX_REFERENCES = 200
"""Message-ids of a References field that threading looks at; the first one and the last ones are kept."""


@dataclass(frozen=True, slots=True)
class Description:
    """What one reading of a message found.

    ``envelope``, ``bodystructure`` and ``body`` are ready to be sent after their item's name. ``subject``,
    ``from_``, ``to``, ``cc`` and ``bcc`` are decoded and folded for searching (see sort.fold), None where the field
    is absent. ``base_subject``, ``*_key`` are collated for sorting. ``sent_at`` is Date in UTC seconds and
    ``sent_day`` the day it names, in days since 1970; None where it cannot be read. ``references`` are
    message-ids without angle brackets, oldest first, In-Reply-To's where there is no References.
    """

    envelope: bytes
    bodystructure: bytes
    body: bytes
    subject: str | None
    from_: str | None
    to: str | None
    cc: str | None
    bcc: str | None
    base_subject: str
    is_reply: bool
    from_key: str
    to_key: str
    cc_key: str
    display_from: str
    display_to: str
    sent_at: int | None
    sent_day: int | None
    message_id: str
    references: tuple[str, ...]


def describe(raw: bytes) -> Description:
    """Reads a whole message (its CRLF form). Never raises; costs under 0.15 ms for an ordinary small message."""
    root = parse(raw)
    fields = root.fields
    from_, to, cc, bcc = (addresses(fields, name) for name in (b"from", b"to", b"cc", b"bcc"))
    subject = text_field(fields, b"subject")
    decoded = decode_header(subject) if subject else ""
    base, is_reply = base_subject(decoded)
    full, short = print_structures(root)
    sent = sent_date(text_field(fields, b"date"))
    return Description(
        envelope=print_envelope_of(fields, from_, to, cc, bcc),
        bodystructure=full,
        body=short,
        subject=None if subject is None else fold(decoded),
        from_=fold(address_text(from_)) if b"from" in fields else None,
        to=fold(address_text(to)) if b"to" in fields else None,
        cc=fold(address_text(cc)) if b"cc" in fields else None,
        bcc=fold(address_text(bcc)) if b"bcc" in fields else None,
        base_subject=collation(base),
        is_reply=is_reply,
        from_key=mailbox_key(from_),
        to_key=mailbox_key(to),
        cc_key=mailbox_key(cc),
        display_from=display_key(from_),
        display_to=display_key(to),
        sent_at=sent.at if sent else None,
        sent_day=sent.day if sent else None,
        message_id=_first_id(fields.get(b"message-id")),
        references=_references(fields),
    )


def _first_id(values: list[bytes] | None) -> str:
    found = _ids(values[0]) if values else ()
    return found[0] if found else ""


def _ids(value: bytes) -> tuple[str, ...]:
    """The message-ids of a field, without brackets, those with quoted parts in one form (RFC 5256 §2.2)."""
    found = _MSGID.findall(value)
    if found:
        return tuple([_normal_id(each) for each in found])
    return tuple([_normal_id(each) for each in _BETWEEN_IDS.split(value) if b"@" in each])


def _normal_id(value: bytes) -> str:
    if b'"' in value:
        value = re.sub(rb'"((?:[^"\\]|\\.)*)"', lambda m: re.sub(rb"\\(.)", rb"\1", m[1]), value)
    return value.decode("utf-8", "replace")


def _references(fields: dict[bytes, list[bytes]]) -> tuple[str, ...]:
    """References, else the first id of In-Reply-To (RFC 5256 §4, THREAD=REFERENCES step 1)."""
    if values := fields.get(b"references"):
        found = _ids(values[0])
        if len(found) > MAX_REFERENCES:
            found = (found[0], *found[1 - MAX_REFERENCES :])
        if found:
            return found
    if values := fields.get(b"in-reply-to"):
        return tuple([_normal_id(each) for each in _MSGID.findall(values[0])[:1]])
    return ()


def preview(root: Part) -> str:
    """The first words of the text, white space collapsed (RFC 8970 §3); ``""`` where there is no text."""
    html = None
    for count, part in enumerate(root.walk()):
        if count > 50:
            break
        kind = part.content_type
        if kind.type.lower() != b"text" or part.disposition[0].lower() == b"attachment":
            continue
        subtype = kind.subtype.lower()
        if subtype == b"plain":
            if words := _words(part.text(4 * PREVIEW_LENGTH + 200)):
                return words
        elif subtype == b"html" and html is None:
            html = part
    return _words(html_text(without_title(html.text(8_000)))) if html else ""


def _words(text: str) -> str:
    text = text[: 8 * PREVIEW_LENGTH].translate(_INVISIBLE) if not text.isascii() else text[: 8 * PREVIEW_LENGTH]
    text = " ".join(text.split())[:PREVIEW_LENGTH].rstrip(" \ufffd")
    return text.translate(_INVISIBLE) if not text.isprintable() else text
