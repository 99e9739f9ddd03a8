"""ENVELOPE (RFC 9051 §7.5.2)."""

from __future__ import annotations

from mailguard.model.mime import unfold
from mailguard.protocol.imap.address import Mailbox, parse_addresses, print_addresses
from mailguard.protocol.imap.text import nstring

Fields = dict[bytes, list[bytes]]


def addresses(fields: Fields, name: bytes) -> list[Mailbox]:
    """The addresses of every field of this name together, so that nobody hides a second From."""
    values = fields.get(name)
    if not values:
        return []
    if len(values) == 1:
        return parse_addresses(unfold(values[0]))
    return [mailbox for value in values for mailbox in parse_addresses(unfold(value))]


def text_field(fields: Fields, name: bytes) -> bytes | None:
    """The first field of this name, unfolded; None if there is none."""
    values = fields.get(name)
    return unfold(values[0]) if values else None


def print_envelope(fields: Fields) -> bytes:
    """The ENVELOPE of a header section given as field bodies by lower-case name."""
    return print_envelope_of(fields, *[addresses(fields, name) for name in (b"from", b"to", b"cc", b"bcc")])


def print_envelope_of(
    fields: Fields, from_: list[Mailbox], to: list[Mailbox], cc: list[Mailbox], bcc: list[Mailbox]
) -> bytes:
    """The same where the addresses are known already; Sender and Reply-To default to From."""
    author = print_addresses(from_)
    return b"(%b %b %b %b %b %b %b %b %b %b)" % (
        nstring(text_field(fields, b"date")),
        nstring(text_field(fields, b"subject")),
        author,
        _or_author(fields, b"sender", author),
        _or_author(fields, b"reply-to", author),
        print_addresses(to),
        print_addresses(cc),
        print_addresses(bcc),
        nstring(text_field(fields, b"in-reply-to")),
        nstring(text_field(fields, b"message-id")),
    )


def _or_author(fields: Fields, name: bytes, author: bytes) -> bytes:
    if name not in fields:
        return author
    printed = print_addresses(addresses(fields, name))
    return author if printed == b"NIL" else printed
