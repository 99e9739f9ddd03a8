"""The commands of IMAP: their names, when they are legal, and how their arguments are read (RFC 9051 §6)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial

from mailguard.protocol.imap.append import parse_append, parse_replace
from mailguard.protocol.imap.arguments import (
    Authenticate,
    Create,
    Expunge,
    Id,
    Login,
    Names,
    Resync,
    Select,
    Status,
    Words,
)
from mailguard.protocol.imap.change import parse_copy, parse_store
from mailguard.protocol.imap.context import parse_cancel
from mailguard.protocol.imap.fetch import parse_fetch
from mailguard.protocol.imap.lexer import CommandError, Lexer
from mailguard.protocol.imap.listing import parse_list, parse_lsub, parse_status_items
from mailguard.protocol.imap.metadata import parse_get, parse_set
from mailguard.protocol.imap.notify import parse_notify
from mailguard.protocol.imap.quota import parse_acl, parse_quota, parse_set_quota
from mailguard.protocol.imap.searchgrammar import parse_search, parse_sort, parse_thread
from mailguard.protocol.imap.sequence import MAX

MAX_ID_FIELDS = 30
SPECIAL_USES = ("\\Archive", "\\Drafts", "\\Junk", "\\Sent", "\\Trash")
"""What a mailbox can be created for (RFC 6154 §2)."""


class State(Enum):
    """Where a connection stands (RFC 9051 §3)."""

    NOT_AUTHENTICATED = "before sign-in"
    AUTHENTICATED = "after sign-in"
    SELECTED = "with a mailbox selected"
    LOGOUT = "logged out"


Parser = Callable[[Lexer], object]


@dataclass(frozen=True, slots=True)
class Kind:
    """How one command is read, and in which states it is legal."""

    parse: Parser
    states: tuple[State, ...]


def _none(_lexer: Lexer) -> None:
    return None


def _login(lexer: Lexer) -> Login:
    lexer.space()
    user = lexer.astring()
    lexer.space()
    password = lexer.astring()
    try:
        return Login(user.decode(), password.decode())
    except UnicodeDecodeError:
        raise CommandError("name or password is not UTF-8", status="NO", code="AUTHENTICATIONFAILED") from None


def _authenticate(lexer: Lexer) -> Authenticate:
    lexer.space()
    mechanism = lexer.word()
    if not lexer.accept(b" "):
        return Authenticate(mechanism, None)
    if lexer.accept(b"="):
        return Authenticate(mechanism, b"")
    return Authenticate(mechanism, decode_response(lexer.astring()))


def decode_response(text: bytes) -> bytes:
    """The octets of one base64 line. Raises CommandError."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise CommandError("that is not base64") from None


def _id(lexer: Lexer) -> Id:
    lexer.space()
    if lexer.accept_word(b"NIL"):
        return Id(())

    def pair() -> tuple[str, str]:
        name = lexer.string()
        lexer.space()
        value = lexer.nstring()
        if len(name) > 30 or len(value or b"") > 1024:
            raise CommandError("an ID field is longer than RFC 2971 allows")
        return name.decode("utf-8", "replace"), (value or b"").decode("utf-8", "replace")

    fields = lexer.parenthesised(pair, empty=True)
    if len(fields) > MAX_ID_FIELDS:
        raise CommandError(f"more than {MAX_ID_FIELDS} ID fields")
    return Id(fields)


def _select(lexer: Lexer, *, read_only: bool) -> Select:
    lexer.space()
    mailbox = lexer.mailbox()
    condstore = False
    resync: Resync | None = None

    def parameter() -> None:
        nonlocal condstore, resync
        match lexer.word():
            case "CONDSTORE":
                condstore = True
            case "QRESYNC":
                lexer.space()
                resync = _resync(lexer)
            case other:
                raise CommandError(f"no SELECT parameter {other}")

    if lexer.accept(b" "):
        lexer.parenthesised(parameter)
    return Select(mailbox, read_only, condstore, resync)


def _resync(lexer: Lexer) -> Resync:
    lexer.expect(b"(")
    validity = lexer.number(MAX)
    lexer.space()
    modseq = lexer.number()
    known = numbers = uids = None
    if lexer.accept(b" "):
        if lexer.peek() != b"(":
            known = lexer.uid_set()
        if known is None or lexer.accept(b" "):
            lexer.expect(b"(")
            numbers = lexer.uid_set()
            lexer.space()
            uids = lexer.uid_set()
            lexer.expect(b")")
    lexer.expect(b")")
    if not validity or not modseq:
        raise CommandError("UIDVALIDITY and MODSEQ begin at 1")
    return Resync(validity, modseq, known, numbers, uids)


def _create(lexer: Lexer) -> Create:
    lexer.space()
    mailbox = lexer.mailbox()
    uses: tuple[str, ...] = ()
    if lexer.accept(b" ("):
        if not lexer.accept_word(b"USE"):
            raise CommandError("USE is the only CREATE parameter")
        lexer.space()
        uses = lexer.parenthesised(lexer.flag, empty=True)
        lexer.expect(b")")
    return Create(mailbox, uses)


def _name(lexer: Lexer) -> Names:
    lexer.space()
    return Names(lexer.mailbox())


def _two_names(lexer: Lexer) -> Names:
    lexer.space()
    first = lexer.mailbox()
    lexer.space()
    return Names(first, lexer.mailbox())


def _status(lexer: Lexer) -> Status:
    lexer.space()
    mailbox = lexer.mailbox()
    lexer.space()
    return Status(mailbox, parse_status_items(lexer))


def _word(lexer: Lexer) -> str:
    lexer.space()
    return lexer.word()


def _words(lexer: Lexer) -> Words:
    found = []
    while lexer.accept(b" "):
        found.append(lexer.word())
    if not found:
        raise CommandError("an argument is missing")
    return Words(tuple(found))


def _expunge(lexer: Lexer, uid: bool) -> Expunge:
    if not uid:
        return Expunge()
    lexer.space()
    return Expunge(lexer.sequence_set(), uid=True)


ANY = tuple(state for state in State if state is not State.LOGOUT)
BEFORE = (State.NOT_AUTHENTICATED,)
AFTER = (State.AUTHENTICATED, State.SELECTED)
SELECTED = (State.SELECTED,)


def _pair(parse: Callable[[Lexer, bool], object]) -> tuple[Kind, Kind]:
    """The form with message numbers, and the one with UIDs."""
    return Kind(lambda lexer: parse(lexer, False), SELECTED), Kind(lambda lexer: parse(lexer, True), SELECTED)


_PAIRS = {
    "FETCH": parse_fetch, "STORE": parse_store, "COPY": parse_copy, "MOVE": parse_copy, "SEARCH": parse_search,
    "SORT": parse_sort, "THREAD": parse_thread, "EXPUNGE": _expunge, "REPLACE": parse_replace,
}  # fmt: skip

_ACL = {"MYRIGHTS": 0, "GETACL": 0, "LISTRIGHTS": 1, "DELETEACL": 1, "SETACL": 2}

COMMANDS: dict[str, Kind] = {
    **{name: Kind(_none, ANY) for name in ("CAPABILITY", "NOOP", "LOGOUT")},
    "ID": Kind(_id, ANY),
    "STARTTLS": Kind(_none, BEFORE),
    "LOGIN": Kind(_login, BEFORE),
    "AUTHENTICATE": Kind(_authenticate, BEFORE),
    "ENABLE": Kind(_words, AFTER),
    "SELECT": Kind(lambda lexer: _select(lexer, read_only=False), AFTER),
    "EXAMINE": Kind(lambda lexer: _select(lexer, read_only=True), AFTER),
    "CREATE": Kind(_create, AFTER),
    **{name: Kind(_name, AFTER) for name in ("DELETE", "SUBSCRIBE", "UNSUBSCRIBE")},
    "RENAME": Kind(_two_names, AFTER),
    "LIST": Kind(parse_list, AFTER),
    "LSUB": Kind(parse_lsub, AFTER),
    "NAMESPACE": Kind(_none, AFTER),
    "STATUS": Kind(_status, AFTER),
    "APPEND": Kind(parse_append, AFTER),
    "IDLE": Kind(_none, AFTER),
    "COMPRESS": Kind(_word, AFTER),
    "GETQUOTA": Kind(parse_quota, AFTER),
    "GETQUOTAROOT": Kind(_name, AFTER),
    "SETQUOTA": Kind(parse_set_quota, AFTER),
    "GETMETADATA": Kind(parse_get, AFTER),
    "SETMETADATA": Kind(parse_set, AFTER),
    "NOTIFY": Kind(parse_notify, AFTER),
    **{name: Kind(partial(parse_acl, words=words), AFTER) for name, words in _ACL.items()},
    "CANCELUPDATE": Kind(parse_cancel, SELECTED),
    **{name: Kind(_none, SELECTED) for name in ("CHECK", "CLOSE", "UNSELECT")},
    **{name: _pair(parse)[0] for name, parse in _PAIRS.items()},
    **{f"UID {name}": _pair(parse)[1] for name, parse in _PAIRS.items()},
}
"""Every command by name; ``UID FETCH`` and its like under both words."""
