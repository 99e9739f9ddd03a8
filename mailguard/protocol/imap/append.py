"""APPEND and REPLACE: messages on their way into a mailbox (RFC 9051 §6.3.12, RFC 3502, 3516, 4469, 8508, 6855)."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailguard.protocol.imap.lexer import CommandError, Lexer
from mailguard.protocol.imap.url import Url, parse_url


@dataclass(frozen=True, slots=True)
class Upload:
    """One message: its octets, flags and INTERNALDATE as Unix time (None: now); ``binary`` if it was a literal8.
    Instead of octets there may be ``pieces`` to put together (CATENATE)."""

    data: bytes = field(repr=False)
    flags: tuple[str, ...] = ()
    date: float | None = None
    binary: bool = False
    pieces: tuple[bytes | Url, ...] = field(default=(), repr=False)

    @property
    def empty(self) -> bool:
        """Whether the client sent nothing, which takes the command back (RFC 3502 §5)."""
        return not self.data and not self.pieces


@dataclass(frozen=True, slots=True)
class Append:
    """APPEND; no ``uploads`` if the client cancelled by an empty literal (RFC 3502 §5)."""

    mailbox: str
    uploads: tuple[Upload, ...]


@dataclass(frozen=True, slots=True)
class Replace:
    """REPLACE and UID REPLACE: message ``number`` (or UID; 0 for ``*``) gives way to ``append`` (RFC 8508)."""

    number: int
    uid: bool
    append: Append


def parse_append(lexer: Lexer) -> Append:
    """Everything behind ``APPEND``."""
    lexer.space()
    mailbox = lexer.mailbox()
    uploads: list[Upload] = []
    while not uploads or not lexer.at_end:
        lexer.space()
        upload = _upload(lexer)
        if upload.empty:
            return Append(mailbox, ())
        uploads.append(upload)
    return Append(mailbox, tuple(uploads))


def parse_replace(lexer: Lexer, uid: bool) -> Replace:
    """Everything behind ``REPLACE``."""
    lexer.space()
    number = 0 if lexer.accept(b"*") else lexer.number((1 << 32) - 1)
    lexer.space()
    mailbox = lexer.mailbox()
    lexer.space()
    return Replace(number, uid, Append(mailbox, (_upload(lexer),)))


def _upload(lexer: Lexer) -> Upload:
    flags: tuple[str, ...] = ()
    date = None
    if lexer.peek() == b"(":
        flags = lexer.parenthesised(lexer.flag, empty=True)
        lexer.space()
    if lexer.peek() == b'"':
        date = lexer.date_time()
        lexer.space()
    if lexer.accept_word(b"CATENATE"):
        lexer.space()
        return Upload(b"", flags, date, pieces=lexer.parenthesised(lambda: _piece(lexer)))
    if lexer.accept(b"UTF8 ("):  # RFC 6855 §4
        if not lexer.utf8:
            raise CommandError("UTF8 needs ENABLE UTF8=ACCEPT first")
        data, binary = lexer.literal()
        lexer.expect(b")")
    else:
        data, binary = lexer.literal()
    return Upload(data, flags, date, binary)


def _piece(lexer: Lexer) -> bytes | Url:
    match lexer.word():
        case "TEXT":
            lexer.space()
            return lexer.literal()[0]
        case "URL":
            lexer.space()
            return parse_url(lexer.astring())
        case other:
            raise CommandError(f"CATENATE takes TEXT and URL, not {other[:40]}")
