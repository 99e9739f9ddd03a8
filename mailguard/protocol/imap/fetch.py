"""What FETCH asks for, as clients write it (RFC 9051 §6.4.5, RFC 3516, 7162, 8474, 8514, 8970, 9394)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from mailguard.protocol.imap.framing import Command
from mailguard.protocol.imap.lexer import CommandError, Lexer
from mailguard.protocol.imap.searchgrammar import parse_partial
from mailguard.protocol.imap.sequence import MAX, SequenceSet
from mailguard.protocol.imap.text import astring

MAX_FIELDS = 500  # of one HEADER.FIELDS
MAX_ITEMS = 1_000
MAX_PART_DEPTH = 100
_SHORT = 300  # octets of what is asked for, up to which it is remembered

_MACROS = {
    "ALL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"),
    "FAST": ("FLAGS", "INTERNALDATE", "RFC822.SIZE"),
    "FULL": ("FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"),
}
_ATTRIBUTES = frozenset((
    "UID", "FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "MODSEQ", "EMAILID", "THREADID",
    "SAVEDATE",
))  # fmt: skip
_RFC822 = {"RFC822": "", "RFC822.HEADER": "HEADER", "RFC822.TEXT": "TEXT"}
_TEXTS = ("HEADER", "HEADER.FIELDS", "HEADER.FIELDS.NOT", "TEXT", "MIME")


@dataclass(frozen=True, slots=True)
class Attribute:
    """A data item that needs no octets of the message itself; ``name`` in capitals. ``BODY`` is the short structure."""

    name: str


@dataclass(frozen=True, slots=True)
class Section:
    """Octets of a message. ``kind`` is BODY, BINARY, BINARY.SIZE or RFC822; ``part`` its numbers, ``text`` what of it
    (``""`` all); ``fields`` names of header fields; ``partial`` offset and length; ``label`` how the answer calls it.
    ``peek``: reading it does not set \\Seen."""

    kind: str
    part: tuple[int, ...]
    text: str
    label: bytes
    fields: tuple[bytes, ...] = ()
    partial: tuple[int, int] | None = None
    peek: bool = False


Item = Attribute | Section


@dataclass(frozen=True, slots=True)
class Fetch:
    """FETCH or UID FETCH; ``set`` is None for ``$``."""

    set: SequenceSet | None
    items: tuple[Item, ...]
    uid: bool
    changed_since: int | None = None
    vanished: bool = False
    partial: tuple[int, int] | None = None


def parse_fetch(lexer: Lexer, uid: bool) -> Fetch:
    """Everything behind ``FETCH``."""
    lexer.space()
    numbers = lexer.sequence_set()
    lexer.space()
    items, changed_since, vanished, partial = _asked(lexer)
    if vanished and (not uid or changed_since is None):
        raise CommandError("VANISHED goes with UID FETCH and CHANGEDSINCE only (RFC 7162 §3.2.6)")
    if partial is not None and not uid:
        raise CommandError("PARTIAL goes with UID FETCH only (RFC 9394 §3.2)")
    wanted = [Attribute("UID")] if uid else []
    if changed_since is not None:
        wanted.append(Attribute("MODSEQ"))
    # Each item once, in the order of its first mention.
    return Fetch(numbers, tuple(dict.fromkeys((*wanted, *items))), uid, changed_since, vanished, partial)


Asked = tuple[tuple[Item, ...], int | None, bool, tuple[int, int] | None]


def _asked(lexer: Lexer) -> Asked:
    """Data items and modifiers. Clients ask for the same ones again and again."""
    rest = lexer.rest()
    if 0 < len(rest) <= _SHORT:
        asked = _asked_before(rest)
        lexer.skip_rest()
        return asked
    return _read_asked(lexer)


@functools.lru_cache(maxsize=64)
def _asked_before(text: bytes) -> Asked:
    lexer = Lexer(Command((text,)))
    asked = _read_asked(lexer)
    lexer.end()
    return asked


def _read_asked(lexer: Lexer) -> Asked:
    items = _items(lexer)
    return tuple(items), *(_modifiers(lexer) if lexer.accept(b" ") else (None, False, None))


def _modifiers(lexer: Lexer) -> tuple[int | None, bool, tuple[int, int] | None]:
    changed_since: int | None = None
    vanished = False
    partial: tuple[int, int] | None = None

    def modifier() -> None:
        nonlocal changed_since, vanished, partial
        match lexer.word():
            case "CHANGEDSINCE":
                lexer.space()
                changed_since = lexer.number()
            case "VANISHED":
                vanished = True
            case "PARTIAL":
                lexer.space()
                partial = parse_partial(lexer)
            case other:
                raise CommandError(f"no FETCH modifier {other}")

    lexer.parenthesised(modifier)
    return changed_since, vanished, partial


def _items(lexer: Lexer) -> list[Item]:
    if lexer.peek() == b"(":
        found = [item for some in lexer.parenthesised(lambda: _item(lexer)) for item in some]
        if len(found) > MAX_ITEMS:
            raise CommandError(f"more than {MAX_ITEMS} data items", status="NO", code="LIMIT")
        return found
    for macro, names in _MACROS.items():
        if lexer.accept_word(macro.encode()):
            return [Attribute(name) for name in names]
    return _item(lexer)


def parse_items(lexer: Lexer) -> list[Item]:
    """Data items up to the closing parenthesis, whose opening one was taken already."""
    found = _item(lexer)
    while not lexer.accept(b")"):
        lexer.space()
        found += _item(lexer)
        if len(found) > MAX_ITEMS:
            raise CommandError(f"more than {MAX_ITEMS} data items", status="NO", code="LIMIT")
    return found


def _item(lexer: Lexer) -> list[Item]:
    name = lexer.section_word()
    if name in _RFC822:
        return [Section("RFC822", (), _RFC822[name], name.encode(), peek=name == "RFC822.HEADER")]
    if name in ("BODY", "BODY.PEEK", "BINARY", "BINARY.PEEK", "BINARY.SIZE") and lexer.accept(b"["):
        return [_section(lexer, name)]
    if name == "PREVIEW":
        _preview(lexer)
        return [Attribute("PREVIEW")]
    if name in _ATTRIBUTES or name == "BODY":
        return [Attribute(name)]
    raise CommandError(f"no data item {name}")


def section_of(text: bytes, partial: bytes = b"") -> Section:
    """The section with these words (``1.MIME``; empty for all) and a partial range (``<0.5>``). Raises CommandError."""
    lexer = Lexer(Command((b"BODY.PEEK[%b]%b" % (text, partial),)))
    (found,) = _item(lexer)
    lexer.end()
    assert isinstance(found, Section)
    return found


def _preview(lexer: Lexer) -> None:
    # LAZY makes no difference: previews are ready, or made at once (RFC 8970 §3.1).
    if lexer.accept(b" (") and not (lexer.accept_word(b"LAZY") and lexer.accept(b")")):
        raise CommandError("LAZY is the only PREVIEW modifier")


def _section(lexer: Lexer, name: str) -> Section:
    kind = name.removesuffix(".PEEK")
    numbers, text = _section_words(lexer)
    fields: tuple[bytes, ...] = ()
    if text.startswith("HEADER.FIELDS"):
        lexer.space()
        fields = lexer.parenthesised(lambda: _field_name(lexer))
        if len(fields) > MAX_FIELDS:
            raise CommandError(f"more than {MAX_FIELDS} header fields", status="NO", code="LIMIT")
    lexer.expect(b"]")
    if kind != "BODY" and text:
        raise CommandError(f"{kind} takes part numbers only")
    label = _label(kind, numbers, text, fields)
    partial = None
    if kind != "BINARY.SIZE" and lexer.accept(b"<"):
        start = lexer.number()
        lexer.expect(b".")
        partial = (start, lexer.number(MAX))
        lexer.expect(b">")
        if not partial[1]:
            raise CommandError("a partial FETCH of no octets")
        label += b"<%d>" % start
    return Section(kind, numbers, text, label, fields, partial, name.endswith(".PEEK") or kind == "BINARY.SIZE")


def _section_words(lexer: Lexer) -> tuple[tuple[int, ...], str]:
    if lexer.peek() == b"]":
        return (), ""
    words = lexer.section_word().split(".")
    count = 0
    while count < len(words) and words[count].isdigit():
        count += 1
    numbers, text = words[:count], ".".join(words[count:])
    if count > MAX_PART_DEPTH or any(not 1 <= int(number[:12]) <= MAX for number in numbers):
        raise CommandError("no such part number")
    if text not in ("", *_TEXTS) or (text == "MIME" and not numbers):
        raise CommandError(f"no section {'.'.join(words)[:60]}")
    return tuple(int(number) for number in numbers), text


def _field_name(lexer: Lexer) -> bytes:
    name = lexer.astring()
    if not name or b":" in name or any(octet <= 32 or octet >= 127 for octet in name):
        raise CommandError("no header field can have that name")
    return name


def _label(kind: str, numbers: tuple[int, ...], text: str, fields: tuple[bytes, ...]) -> bytes:
    words = ".".join([*map(str, numbers), *([text] if text else [])]).encode()
    if fields:
        words += b" (%b)" % b" ".join([astring(name) for name in fields])
    return b"%b[%b]" % (kind.encode(), words)
