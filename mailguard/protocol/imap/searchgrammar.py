"""SEARCH, SORT and THREAD as clients write them (RFC 9051 §6.4.4, RFC 4731, 5182, 5256, 5267, 9394)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mailguard.model.charset import is_known
from mailguard.protocol.imap import search
from mailguard.protocol.imap.lexer import CommandError, Lexer
from mailguard.protocol.imap.search import Key
from mailguard.protocol.imap.sequence import MAX
from mailguard.protocol.imap.sort import SortKey

MAX_DEPTH = 50
MAX_KEYS = 2_000  # of one command

_FLAGS = {
    "ANSWERED": "\\Answered",
    "DELETED": "\\Deleted",
    "DRAFT": "\\Draft",
    "FLAGGED": "\\Flagged",
    "SEEN": "\\Seen",
}
_HEADERS = ("BCC", "CC", "FROM", "SUBJECT", "TO")
_DATES: dict[str, tuple[Literal["internal", "sent", "saved"], Literal["before", "on", "since"]]] = {
    "BEFORE": ("internal", "before"), "ON": ("internal", "on"), "SINCE": ("internal", "since"),
    "SENTBEFORE": ("sent", "before"), "SENTON": ("sent", "on"), "SENTSINCE": ("sent", "since"),
    "SAVEDBEFORE": ("saved", "before"), "SAVEDON": ("saved", "on"), "SAVEDSINCE": ("saved", "since"),
}  # fmt: skip
_SORTS = ("ARRIVAL", "CC", "DATE", "FROM", "SIZE", "SUBJECT", "TO", "DISPLAYFROM", "DISPLAYTO")
_RESULTS = ("MIN", "MAX", "ALL", "COUNT", "SAVE", "UPDATE", "CONTEXT")
_CONTEXT = {"UPDATE", "CONTEXT"}  # RFC 5267 §4


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH or UID SEARCH. ``results`` is None for the plain form, else what RETURN asks for; ``partial`` its
    window as 1-based ends, both negative when counted from the end; ``update`` asks for news of the result.
    ``refused`` is what keeps a search from being carried out whose result was to be saved."""

    key: Key
    uid: bool
    results: tuple[str, ...] | None = None
    partial: tuple[int, int] | None = None
    update: bool = False
    refused: CommandError | None = None


@dataclass(frozen=True, slots=True)
class Sort:
    """SORT: a search and the order of its result."""

    search: Search
    order: tuple[SortKey, ...]


@dataclass(frozen=True, slots=True)
class Thread:
    """THREAD by ``algorithm``: ORDEREDSUBJECT or REFERENCES."""

    search: Search
    algorithm: str


def parse_search(lexer: Lexer, uid: bool) -> Search:
    """Everything behind ``SEARCH``."""
    lexer.space()
    results, partial = _return(lexer)
    named = lexer.accept_word(b"CHARSET")
    if named:
        if lexer.accepts_utf8:
            raise CommandError("no CHARSET once UTF8=ACCEPT is enabled (RFC 6855 §3)")
        lexer.space()
    key, refused = _program(lexer, results, named)
    if refused:
        return Search(key, uid, results, partial, refused=refused)
    if results is None or not _CONTEXT.intersection(results):
        return Search(key, uid, results, partial)
    # CONTEXT is but a hint that more will be asked of the same search.
    told = tuple(word for word in results if word not in _CONTEXT)
    return Search(key, uid, told or ("UPDATE",) * ("UPDATE" in results) or ("ALL",), partial, "UPDATE" in results)


def parse_sort(lexer: Lexer, uid: bool) -> Sort:
    """Everything behind ``SORT``."""
    lexer.space()
    results, partial = _return(lexer)
    if results is not None and _CONTEXT.intersection(results):
        raise CommandError("only a SEARCH can be kept up to date here")
    order = lexer.parenthesised(lambda: _sort_key(lexer))
    lexer.space()
    key, refused = _program(lexer, results, True)
    return Sort(Search(key, uid, results, partial, refused=refused), order)


def _program(lexer: Lexer, results: tuple[str, ...] | None, named: bool) -> tuple[Key, CommandError | None]:
    """The keys, behind their charset if that is ``named``. A search that is well formed, yet cannot be carried out,
    is an error of its own where it was to set ``$``: that must become empty (RFC 5182 §2.1)."""
    try:
        charset = "UTF-8"
        if named:
            charset = _charset(lexer)
            lexer.space()
        return _Keys(lexer, charset).all(), None
    except CommandError as error:
        if error.status != "NO" or results is None or "SAVE" not in results:
            raise
        lexer.skip_rest()
        return search.NOTHING, error


def parse_thread(lexer: Lexer, uid: bool) -> Thread:
    """Everything behind ``THREAD``."""
    lexer.space()
    algorithm = lexer.word()
    if algorithm not in ("ORDEREDSUBJECT", "REFERENCES"):
        raise CommandError(f"no threading algorithm {algorithm} here")
    lexer.space()
    charset = _charset(lexer)
    lexer.space()
    return Thread(Search(_Keys(lexer, charset).all(), uid), algorithm)


def _sort_key(lexer: Lexer) -> SortKey:
    name = lexer.word()
    reverse = name == "REVERSE"
    if reverse:
        lexer.space()
        name = lexer.word()
    if name not in _SORTS:
        raise CommandError(f"no sort key {name}")
    return SortKey(name, reverse)


def _charset(lexer: Lexer) -> str:
    name = lexer.astring().decode("ascii", "replace")
    if not is_known(name):
        raise CommandError(f"charset {name[:40]!r} is not known", status="NO", code="BADCHARSET (UTF-8 US-ASCII)")
    return name


def _return(lexer: Lexer) -> tuple[tuple[str, ...] | None, tuple[int, int] | None]:
    if not lexer.accept_word(b"RETURN"):
        return None, None
    lexer.space()
    partial: list[tuple[int, int]] = []

    def option() -> str:
        name = lexer.word()
        if name == "PARTIAL":
            lexer.space()
            partial.append(parse_partial(lexer))
        elif name not in _RESULTS:
            raise CommandError(f"no result option {name}")
        return name

    names = lexer.parenthesised(option, empty=True)
    lexer.space()
    if len(partial) > 1 or (partial and "ALL" in names):
        raise CommandError("one PARTIAL only, and not together with ALL (RFC 9394 §3.1)")
    return names or ("ALL",), partial[0] if partial else None


def parse_partial(lexer: Lexer) -> tuple[int, int]:
    """``1:500`` or ``-1:-100``, ascending in size (RFC 9394 §3.1)."""

    def one() -> int:
        negative = lexer.accept(b"-")
        number = lexer.number(MAX)
        if not number:
            raise CommandError("PARTIAL counts from 1")
        return -number if negative else number

    first = one()
    lexer.expect(b":")
    second = one()
    if (first < 0) != (second < 0):
        raise CommandError("both ends of PARTIAL count from the same side")
    return (first, second) if abs(first) <= abs(second) else (second, first)


class _Keys:
    """Reads search keys; ``charset`` is that of their strings."""

    def __init__(self, lexer: Lexer, charset: str) -> None:
        self._lexer = lexer
        self._charset = charset
        self._count = 0

    def all(self, depth: int = 0, closing: bytes = b"") -> Key:
        """Keys up to the end, or up to ``closing``."""
        found = [self.one(depth)]
        while not (self._lexer.accept(closing) if closing else self._lexer.at_end):
            self._lexer.space()
            found.append(self.one(depth))
        return found[0] if len(found) == 1 else search.And(tuple(found))

    def one(self, depth: int) -> Key:
        self._count += 1
        if depth > MAX_DEPTH or self._count > MAX_KEYS:
            raise CommandError(f"a search may have {MAX_KEYS} keys, {MAX_DEPTH} deep", status="NO", code="LIMIT")
        lexer = self._lexer
        if lexer.accept(b"("):
            return self.all(depth + 1, b")")
        if lexer.peek() in b"0123456789*$" and lexer.peek():
            return search.Numbers(lexer.sequence_set())
        return self._named(lexer.word(), depth)

    def _named(self, name: str, depth: int) -> Key:
        lexer = self._lexer
        if (key := _plain(name)) is not None:
            return key
        lexer.space()
        if name in _HEADERS:
            return search.Header(name.lower(), self._string())
        if name in _DATES:
            return search.Date(*_DATES[name], lexer.date())
        match name:
            case "NOT":
                return search.Not(self.one(depth + 1))
            case "OR":
                left = self.one(depth + 1)
                lexer.space()
                return search.Or(left, self.one(depth + 1))
            case "HEADER":
                field = lexer.astring().decode("ascii", "replace").lower()
                lexer.space()
                return search.Header(field, self._string())
            case "BODY":
                return search.Body(self._string())
            case "TEXT":
                return search.Text(self._string())
            case _:
                return self._measured(name)

    def _measured(self, name: str) -> Key:
        lexer = self._lexer
        match name:
            case "LARGER" | "SMALLER":
                return search.Size(name == "LARGER", lexer.number())
            case "KEYWORD":
                return search.Flag(lexer.flag())
            case "UNKEYWORD":
                return search.Not(search.Flag(lexer.flag()))
            case "UID":
                return search.Numbers(lexer.sequence_set(), uid=True)
            case "YOUNGER" | "OLDER":
                seconds = lexer.number(MAX)
                if not seconds:
                    raise CommandError(f"{name} needs a number of seconds above 0")
                return search.Within(name == "YOUNGER", seconds)
            case "MODSEQ":
                return self._modseq()
            case "EMAILID":
                return search.EmailId(lexer.atom())
            case "THREADID":
                lexer.atom()
                return search.NOTHING
            case _:
                raise CommandError(f"no search key {name}")

    def _modseq(self) -> Key:
        lexer = self._lexer
        if lexer.peek() == b'"':  # an entry and its type, which make no difference here (RFC 7162 §3.1.5)
            lexer.string()
            lexer.space()
            if lexer.word() not in ("PRIV", "SHARED", "ALL"):
                raise CommandError("the type of a MODSEQ entry is priv, shared or all")
            lexer.space()
        return search.ModSeq(lexer.number())

    def _string(self) -> str:
        value = self._lexer.astring()
        try:
            return value.decode(self._charset if not value.isascii() else "ascii")
        except (UnicodeDecodeError, LookupError):
            raise CommandError(f"the search string is not in {self._charset}") from None


def _plain(name: str) -> Key | None:
    """A key without an argument, None if it needs one."""
    if name in _FLAGS:
        return search.Flag(_FLAGS[name])
    if name.startswith("UN") and name[2:] in _FLAGS:
        return search.Not(search.Flag(_FLAGS[name[2:]]))
    match name:
        case "ALL" | "SAVEDATESUPPORTED":
            return search.All()
        case "RECENT":
            return search.Recent()
        case "OLD":
            return search.Not(search.Recent())
        case "NEW":
            return search.And((search.Recent(), search.Not(search.Flag("\\Seen"))))
    return None
