"""Flags of one mailbox: their names towards clients, their letters in file names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from mailguard.store import maildir, uidlist
from mailguard.store.snapshot import KeywordLimitError
from mailguard.store.uidlist import MAX_KEYWORDS

_SYSTEM = {flag.lower(): letter for letter, flag in maildir.LETTERS.items() if flag.startswith("\\")}
_FORWARDED = "$forwarded"
# The letter P means it, too, but Dovecot does not know that: it is written as a keyword where there is room for one.


class Alphabet:
    """Letters and names of a mailbox's flags (``dovecot-keywords``); use with the mailbox's lock held."""

    def __init__(self, path: Path, keywords: list[str]) -> None:
        self._path = path
        self.keywords = keywords
        self._known = {name.lower(): n for n, name in enumerate(keywords) if name}
        self._before = len(keywords)

    @classmethod
    def of(cls, path: Path) -> Alphabet:
        """That of the Maildir at ``path``."""
        return cls(path, uidlist.read_keywords(path))

    def letters(self, flags: Iterable[str]) -> str:
        """The letters of some flags, sorted; unknown keywords are added. Raises KeywordLimitError."""
        letters = set()
        for flag in flags:
            low = flag.lower()
            if low in _SYSTEM:
                letters.add(_SYSTEM[low])
            elif low == _FORWARDED and len(self.keywords) >= MAX_KEYWORDS and low not in self._known:
                letters.add("P")
            elif not flag.startswith("\\"):
                letters.add(chr(97 + self._number(flag, low)))
        return "".join(sorted(letters))

    def _number(self, flag: str, low: str) -> int:
        if low not in self._known:
            if len(self.keywords) >= MAX_KEYWORDS:
                raise KeywordLimitError(f"the mailbox has its {MAX_KEYWORDS} keywords already")
            self._known[low] = len(self.keywords)
            self.keywords.append(flag)
        return self._known[low]

    def save(self) -> None:
        """Writes the list back if it grew: before any file carries a new letter."""
        if len(self.keywords) > self._before:
            uidlist.write_keywords(self._path, self.keywords)
            self._before = len(self.keywords)

    def printed(self, letters: str) -> str:
        """The flags as FETCH prints them, without parentheses."""
        return flags_of(letters, self.keywords)

    def change(self, mode: str, flags: Sequence[str], *, keep: str = "") -> Callable[[str], tuple[str, str]]:
        """What ``+``, ``-`` or ``=`` these flags makes of the info part of a file name (``2,FS``): the new info part,
        and the flags as printed. The letters to ``keep`` stay where they are."""
        wanted = set(self.letters(flags))
        if mode == "-" and any(flag.lower() == _FORWARDED for flag in flags):
            wanted.add("P")
        known: dict[str, tuple[str, str]] = {}

        def changed(info: str) -> tuple[str, str]:
            if info not in known:
                had, comma, foreign = info[2:].partition(",") if info.startswith("2,") else ("", "", "")
                letters = _combine(set(had), wanted, mode, len(self.keywords)) | (set(had) & set(keep))
                new = "".join(sorted(letters))
                same = new == had and info.startswith("2,")
                known[info] = (info if same else f"2,{new}{comma}{foreign}"), self.printed(new)
            return known[info]

        return changed


def flags_of(letters: str, keywords: list[str]) -> str:
    """The flags as FETCH prints them, without parentheses."""
    names = [maildir.LETTERS[c] for c in letters if c in maildir.LETTERS]
    for letter in letters:
        number = ord(letter) - 97
        if 0 <= number < len(keywords) and keywords[number]:
            names.append(keywords[number])
    return " ".join(dict.fromkeys(names) if letters.count("P") else names)


def _combine(had: set[str], wanted: set[str], mode: str, keywords: int) -> set[str]:
    if mode == "+":
        return had | wanted
    if mode == "-":
        return had - wanted
    # Letters that we do not know the meaning of are not ours to clear.
    foreign = {c for c in had if c not in maildir.LETTERS and not 0 <= ord(c) - 97 < keywords}
    return wanted | foreign
