"""LIST and LSUB: what clients ask for, and which names answer it (RFC 9051 §6.3.9, RFC 5258, 5819, 6154)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mailguard.protocol.imap.lexer import CommandError, Lexer
from mailguard.protocol.imap.mailboxname import pattern as compiled

MAX_PATTERNS = 100
STATUS_ITEMS = frozenset((
    "MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN", "DELETED", "SIZE", "HIGHESTMODSEQ", "APPENDLIMIT",
    "MAILBOXID", "DELETED-STORAGE",
))  # fmt: skip
_SELECTIONS = frozenset(("SUBSCRIBED", "REMOTE", "RECURSIVEMATCH", "SPECIAL-USE"))
_RETURNS = frozenset(("SUBSCRIBED", "CHILDREN", "SPECIAL-USE"))


@dataclass(frozen=True, slots=True)
class List:
    """LIST or LSUB. ``extended`` says that RFC 5258's syntax was used; ``status`` the items of RETURN (STATUS)."""

    reference: str
    patterns: tuple[str, ...]
    selections: frozenset[str] = frozenset()
    returns: frozenset[str] = frozenset()
    status: tuple[str, ...] = ()
    extended: bool = False
    lsub: bool = False


@dataclass(frozen=True, slots=True)
class Name:
    """A mailbox name as LIST sees it; ``exists`` is False for one that is only subscribed to or only has others
    below it (``parent``)."""

    name: str
    exists: bool = True
    selectable: bool = True
    subscribed: bool = False
    children: bool = False
    use: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the answer; ``child_info`` are the selection options that names below it meet."""

    name: Name
    attributes: tuple[str, ...]
    child_info: tuple[str, ...] = ()


def parse_list(lexer: Lexer) -> List:
    """Everything behind ``LIST``."""
    lexer.space()
    selections: frozenset[str] = frozenset()
    extended = False
    if lexer.peek() == b"(":
        selections = frozenset(lexer.parenthesised(lambda: _option(lexer, _SELECTIONS), empty=True))
        lexer.space()
        extended = True
        if "RECURSIVEMATCH" in selections and not selections & {"SUBSCRIBED", "SPECIAL-USE"}:
            raise CommandError("RECURSIVEMATCH needs an option to match (RFC 5258 §3)")
    reference = lexer.name_of(lexer.astring())
    lexer.space()
    if lexer.peek() == b"(":
        patterns = lexer.parenthesised(lexer.pattern)
        extended = True
        if len(patterns) > MAX_PATTERNS:
            raise CommandError(f"more than {MAX_PATTERNS} patterns", status="NO", code="LIMIT")
    else:
        patterns = (lexer.pattern(),)
    returns: frozenset[str] = frozenset()
    status: list[str] = []
    if lexer.accept(b" "):
        if not lexer.accept_word(b"RETURN"):
            raise CommandError("RETURN is expected behind the patterns")
        lexer.space()
        extended = True
        returns = frozenset(lexer.parenthesised(lambda: _return_option(lexer, status), empty=True))
    return List(reference, patterns, selections, returns, tuple(status), extended)


def parse_lsub(lexer: Lexer) -> List:
    """Everything behind ``LSUB``."""
    lexer.space()
    reference = lexer.name_of(lexer.astring())
    lexer.space()
    return List(reference, (lexer.pattern(),), lsub=True)


def _option(lexer: Lexer, known: frozenset[str]) -> str:
    name = lexer.word()
    if name not in known:
        raise CommandError(f"no LIST option {name}")
    return name


def _return_option(lexer: Lexer, status: list[str]) -> str:
    if lexer.accept_word(b"STATUS"):
        lexer.space()
        status += parse_status_items(lexer)
        return "STATUS"
    return _option(lexer, _RETURNS)


def parse_status_items(lexer: Lexer) -> tuple[str, ...]:
    """``(MESSAGES UNSEEN ...)``."""

    def item() -> str:
        name = lexer.word()
        if name not in STATUS_ITEMS:
            raise CommandError(f"no STATUS item {name}")
        return name

    return tuple(dict.fromkeys(lexer.parenthesised(item)))


def answer(command: List, names: Iterable[Name], *, separator: str = "/") -> Iterator[Line]:
    """The lines that answer a command; ``names`` are all names there are, parents of existing ones included."""
    every = list(names)
    # A trailing separator is ignored, as in names to create.
    patterns = [compiled(command.reference, text, separator=separator) for text in command.patterns]
    if command.lsub:
        yield from _subscribed(every, patterns, command.patterns[0].endswith("%"), separator)
        return
    wanted = command.selections & {"SUBSCRIBED", "SPECIAL-USE"}
    recursive = "RECURSIVEMATCH" in command.selections
    below = _parents_of([n for n in every if _meets(n, wanted)], separator) if recursive else frozenset()
    for name in every:
        if not any(pattern.match(name.name) for pattern in patterns):
            continue
        if not wanted and not name.exists and not name.children:
            continue  # subscribed to, but gone: only SUBSCRIBED shows it
        meets = _meets(name, wanted)
        info = (
            ("SUBSCRIBED",) if name.name in below and not _shown_below(name, every, patterns, wanted, separator) else ()
        )
        if meets or info:
            yield Line(name, attributes(name, command), info)


def _shown_below(
    name: Name, names: list[Name], patterns: list[re.Pattern[str]], wanted: frozenset[str], separator: str
) -> bool:
    """Whether every name below that meets the selection is in the answer itself."""
    return all(
        any(pattern.match(other.name) for pattern in patterns)
        for other in names
        if other.name.startswith(name.name + separator) and _meets(other, wanted)
    )


def _meets(name: Name, wanted: frozenset[str]) -> bool:
    return ("SUBSCRIBED" not in wanted or name.subscribed) and ("SPECIAL-USE" not in wanted or bool(name.use))


def _parents_of(names: list[Name], separator: str) -> frozenset[str]:
    found: set[str] = set()
    for name in names:
        parts = name.name.split(separator)
        found.update(separator.join(parts[:n]) for n in range(1, len(parts)))
    return frozenset(found)


def attributes(name: Name, command: List) -> tuple[str, ...]:
    """What LIST says of a name in answer to this command."""
    found = []
    if not name.exists:
        found.append("\\NonExistent" if command.extended else "\\Noselect")
    elif not name.selectable:
        found.append("\\Noselect")
    found.append("\\HasChildren" if name.children else "\\HasNoChildren")
    if name.subscribed and (command.selections | command.returns) & {"SUBSCRIBED"}:
        found.append("\\Subscribed")
    if name.use:
        found.append(name.use)
    return tuple(found)


def _subscribed(names: list[Name], patterns: list[re.Pattern[str]], stops: bool, separator: str) -> Iterator[Line]:
    """LSUB: subscribed names; with ``%`` also their parents, marked \\Noselect (RFC 3501 §6.3.9)."""
    subscribed = [name for name in names if name.subscribed]
    shown = {name.name for name in subscribed}
    for name in subscribed:
        if patterns[0].match(name.name):
            yield Line(name, () if name.exists else ("\\Noselect",))
    if stops:
        for parent in sorted(_parents_of(subscribed, separator) - shown):
            if patterns[0].match(parent):
                yield Line(Name(parent, exists=False), ("\\Noselect",))
