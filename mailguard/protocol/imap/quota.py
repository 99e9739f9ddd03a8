"""QUOTA and ACL commands as clients write them (RFC 9208, RFC 4314)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailguard.protocol.imap.lexer import CommandError, Lexer

_RIGHTS = re.compile(r"[a-z0-9]*\Z")


@dataclass(frozen=True, slots=True)
class QuotaRoot:
    """GETQUOTA and SETQUOTA: the name of a quota root."""

    root: str


@dataclass(frozen=True, slots=True)
class Acl:
    """An ACL command: ``mailbox``, whose rights (``identifier``), and which (``rights``, letters with an optional sign
    before them)."""

    mailbox: str
    identifier: str = ""
    rights: str = ""


def parse_quota(lexer: Lexer) -> QuotaRoot:
    """Everything behind ``GETQUOTA``."""
    lexer.space()
    return QuotaRoot(lexer.astring().decode("utf-8", "replace"))


def parse_set_quota(lexer: Lexer) -> QuotaRoot:
    """Everything behind ``SETQUOTA``."""
    found = parse_quota(lexer)
    lexer.space()

    def limit() -> None:
        lexer.atom()
        lexer.space()
        lexer.number()

    lexer.parenthesised(limit, empty=True)
    return found


def parse_acl(lexer: Lexer, words: int) -> Acl:
    """A mailbox and ``words`` more of identifier and rights."""
    lexer.space()
    mailbox = lexer.mailbox()
    rest = []
    for _ in range(words):
        lexer.space()
        rest.append(lexer.astring().decode("utf-8", "replace"))
    identifier, rights = [*rest, "", ""][:2]
    if not _RIGHTS.match(rights.removeprefix("+").removeprefix("-")):
        raise CommandError("rights are small letters and digits")
    return Acl(mailbox, identifier, rights)
