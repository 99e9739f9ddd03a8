"""GETMETADATA and SETMETADATA as clients write them (RFC 5464)."""

from __future__ import annotations

from dataclasses import dataclass

from mailguard.protocol.imap.lexer import CommandError, Lexer

INFINITY = -1
MAX_ENTRIES = 100  # of one command


@dataclass(frozen=True, slots=True)
class GetMetadata:
    """GETMETADATA; ``mailbox`` is empty for the server. ``depth`` is 0, 1 or INFINITY, ``max_size`` None without
    a limit."""

    mailbox: str
    entries: tuple[str, ...]
    depth: int = 0
    max_size: int | None = None


@dataclass(frozen=True, slots=True)
class SetMetadata:
    """SETMETADATA; a value of None removes its entry."""

    mailbox: str
    entries: tuple[tuple[str, bytes | None], ...]


def parse_get(lexer: Lexer) -> GetMetadata:
    """Everything behind ``GETMETADATA``."""
    options: dict[str, int] = {}
    lexer.space()
    if lexer.peek() == b"(":
        lexer.parenthesised(lambda: _option(lexer, options))
        lexer.space()
    mailbox = lexer.mailbox()
    lexer.space()
    if lexer.peek() == b"(" and not options:  # some clients put the options here
        if lexer.accept(b"(DEPTH ") or lexer.accept(b"(MAXSIZE "):
            raise CommandError("options stand before the mailbox")
        entries = lexer.parenthesised(lambda: _entry(lexer))
    else:
        entries = lexer.parenthesised(lambda: _entry(lexer)) if lexer.peek() == b"(" else (_entry(lexer),)
    if len(entries) > MAX_ENTRIES:
        raise CommandError(f"more than {MAX_ENTRIES} entries", status="NO", code="LIMIT")
    return GetMetadata(mailbox, entries, options.get("DEPTH", 0), options.get("MAXSIZE"))


def _option(lexer: Lexer, options: dict[str, int]) -> None:
    name = lexer.word()
    lexer.space()
    if name == "MAXSIZE":
        options[name] = lexer.number()
    elif name == "DEPTH":
        depth = lexer.word()
        if depth not in ("0", "1", "INFINITY"):
            raise CommandError("DEPTH is 0, 1 or infinity")
        options[name] = INFINITY if depth == "INFINITY" else int(depth)
    else:
        raise CommandError(f"no GETMETADATA option {name}")


def _entry(lexer: Lexer) -> str:
    name = lexer.astring().decode("ascii", "replace").lower()
    good = f"{name}/".startswith(("/private/", "/shared/")) and name.isascii() and name.isprintable()
    if not good or "//" in name or name.endswith("/") or set(name) & set("*%") or len(name) > 200:
        raise CommandError(f"{name[:60]!r} is not the name of an entry: /private/... or /shared/...")
    return name


def parse_set(lexer: Lexer) -> SetMetadata:
    """Everything behind ``SETMETADATA``."""
    lexer.space()
    mailbox = lexer.mailbox()
    lexer.space()

    def pair() -> tuple[str, bytes | None]:
        name = _entry(lexer)
        lexer.space()
        return name, lexer.literal()[0] if lexer.at_literal else lexer.nstring()

    entries = lexer.parenthesised(pair)
    if len(entries) > MAX_ENTRIES:
        raise CommandError(f"more than {MAX_ENTRIES} entries", status="NO", code="LIMIT")
    return SetMetadata(mailbox, entries)
