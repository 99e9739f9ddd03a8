"""Dovecot's truth files of one Maildir: ``dovecot-uidlist`` version 3, ``dovecot-keywords``; how they are written."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from mailguard.store import durable

UIDLIST = "dovecot-uidlist"
KEYWORDS = "dovecot-keywords"
VALIDITY = "mailguard-uidvalidity"  # in the INBOX's Maildir: the last one given to any mailbox
MAX_KEYWORDS = 26
GAP = 1_000_000
"""UIDs left out where somebody may have given some of them to messages that we do not know of."""

_LINE = re.compile("[^\n]+")


class UidlistError(ValueError):
    """The file is none that we can read; UIDs must be given anew under another UIDVALIDITY."""


@dataclass(slots=True)
class Record:
    """One line: ``fields`` are record keys such as ``W2481`` in their order, ``name`` the file name, flags stale."""

    uid: int
    name: str
    fields: tuple[str, ...] = ()

    @property
    def base(self) -> str:
        """The base name to match by."""
        return self.name.rpartition(":")[0] if ":" in self.name else self.name

    def field(self, key: str) -> str:
        """The value of a record key (one capital letter), ``""`` if it is absent."""
        return next((f[1:] for f in self.fields if f.startswith(key)), "")

    def line(self) -> str:
        """As it stands in the file."""
        return " ".join((str(self.uid), *self.fields, f":{self.name}")) + "\n"


@dataclass(slots=True)
class Uidlist:
    """The whole file. ``extra`` are header keys that we do not know and keep."""

    uid_validity: int
    next_uid: int
    guid: str
    records: list[Record] = field(default_factory=list)
    extra: tuple[str, ...] = ()
    torn: bool = False  # something in it could not be read: write it anew before anything is appended

    @classmethod
    def fresh(cls, uid_validity: int) -> Uidlist:
        """An empty one."""
        return cls(uid_validity, 1, secrets.token_hex(16))

    @classmethod
    def parse(cls, text: str) -> Uidlist:
        """Raises UidlistError if it is not version 3 (or 1) or breaks the rule of ascending UIDs."""
        head, end, rest = text.partition("\n")
        if not end:
            raise UidlistError("the header is cut off")
        made = cls.headed(head)
        last = 0
        made.torn = made.torn or text[-1:] != "\n"
        for found in _LINE.finditer(rest):  # one at a time: a list of all lines would be as large as all records
            line = found[0]
            record = _record(line)
            if record is None:
                made.torn = made.torn or line != ""
                continue  # a torn last line: its file is numbered again, above every UID seen
            if record.uid <= last:
                raise UidlistError(f"UID {record.uid} follows {last}")
            last = record.uid
            made.records.append(record)
        made.next_uid = max(made.next_uid, last + 1)
        made._drop_doubles()
        return made

    @classmethod
    def headed(cls, head: str) -> Uidlist:
        """One with this first line. Raises UidlistError."""
        words = head.rstrip("\n").split(" ")
        made = cls._header(words)
        made.torn = words[0] == "1"
        return made

    @classmethod
    def _header(cls, words: list[str]) -> Uidlist:
        try:
            if words[0] == "1":
                return cls(int(words[1]), int(words[2]), secrets.token_hex(16))
            keys = {word[:1]: word[1:] for word in words[1:]}
            if words[0] != "3" or int(keys["V"]) <= 0:
                raise UidlistError(f"version {words[0]!r}")
            extra = tuple(word for word in words[1:] if word[:1] not in "VNG")
            return cls(
                int(keys["V"]), max(1, int(keys.get("N", "1"))), keys.get("G") or secrets.token_hex(16), [], extra
            )
        except (IndexError, KeyError, ValueError) as error:
            raise UidlistError(f"the header cannot be read: {error}") from None

    def _drop_doubles(self) -> None:
        # A base name listed twice: the later UID wins.
        if len({hash(record.base) for record in self.records}) != len(self.records):
            last = {record.base: record.uid for record in self.records}
            self.records = [record for record in self.records if last[record.base] == record.uid]

    def render(self) -> str:
        """The file as text."""
        head = " ".join(("3", f"V{self.uid_validity}", f"N{self.next_uid}", f"G{self.guid}", *self.extra))
        return head + "\n" + "".join(record.line() for record in self.records)


def _record(line: str) -> Record | None:
    head, colon, name = line.partition(":")
    words = [word for word in head.split(" ") if word]
    if not colon or not name or not words or not words[0].isdecimal():
        parts = line.split(" ", 1)  # version 1: `uid name`
        if len(parts) == 2 and parts[0].isdecimal() and parts[1] and not colon:
            return Record(int(parts[0]), parts[1])
        return None
    if len(words) == 1 or all(w[:1].isupper() for w in words[1:]):
        return Record(int(words[0]), name, tuple(words[1:]))
    return Record(int(words[0]), line.split(" ", 1)[1])


def read_uidlist(path: Path) -> Uidlist | None:
    """The list of a Maildir, None if there is none yet. Raises UidlistError."""
    try:
        return Uidlist.parse((path / UIDLIST).read_bytes().decode("utf-8", "surrogateescape"))
    except FileNotFoundError:
        return None


def headed(path: Path | str) -> Uidlist | None:
    """The list of a Maildir by its first line alone; None if there is none yet. Raises UidlistError."""
    try:
        file = open(f"{path}/{UIDLIST}", encoding="utf-8", errors="surrogateescape", newline="\n")  # noqa: SIM115
    except FileNotFoundError:
        return None
    with file:
        return _first_line(file)


def _first_line(file: TextIO) -> Uidlist:
    head = file.readline()
    if not head.endswith("\n"):
        raise UidlistError("the header is cut off")
    return Uidlist.headed(head)


def skim(path: Path, take: Callable[[Record], object] = lambda _: None) -> Uidlist | None:
    """The list of a Maildir without its records, each of which is only shown to ``take``; None if there is none yet.
    Double names are not looked for. Raises UidlistError."""
    try:
        file = open(path / UIDLIST, encoding="utf-8", errors="surrogateescape", newline="\n")  # noqa: SIM115
    except FileNotFoundError:
        return None
    with file:
        made = _first_line(file)
        last = 0
        for line in file:
            record = _record(line.removesuffix("\n"))
            made.torn = made.torn or not line.endswith("\n") or (record is None and line != "\n")
            if record is not None:
                if record.uid <= last:
                    raise UidlistError(f"UID {record.uid} follows {last}")
                last = record.uid
                take(record)
        made.next_uid = max(made.next_uid, last + 1)
    return made


def write_uidlist(path: Path, uidlist: Uidlist) -> None:
    """Replaces the list; call with the lock held."""
    replace(path / UIDLIST, uidlist.render())


def append_records(path: Path | str, records: Iterable[Record]) -> None:
    """Adds lines at the end of the list, at a cost that does not depend on it; call with the lock held, and
    ``sync_file`` before a UID is told to anybody. Raises OSError, leaving the list as it was."""
    text = "".join([record.line() for record in records]).encode("utf-8", "surrogateescape")
    descriptor = os.open(f"{path}/{UIDLIST}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        try:
            view = memoryview(text)
            while view:
                view = view[os.write(descriptor, view) :]
            durable.begin(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def sync_file(path: str) -> None:
    """Makes what was appended to a file durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(path: Path, text: str) -> None:
    """Writes a file beside its place, fsyncs it, and renames it there, for good when it returns."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(beside, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_file(str(path.parent))


def fresh_validity(path: str, above: int = 0) -> int:
    """A UIDVALIDITY for a mailbox that has none: higher than any that this account used (RFC 9051 §2.3.1.1)."""
    root = os.path.dirname(path) if os.path.basename(path).startswith(".") else path
    last = max(above, _number(f"{root}/{VALIDITY}", 10), _number(f"{root}/dovecot-uidvalidity", 16))
    made = max(int(time.time()), last + 1)
    replace(Path(root) / VALIDITY, f"{made}\n")
    return made


def _number(path: str, base: int) -> int:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return int(file.read(20), base)
    except (FileNotFoundError, ValueError):
        return 0


def read_keywords(path: Path) -> list[str]:
    """The mailbox's keywords; the place in the list is the letter (``a`` is 0), ``""`` a letter without a name."""
    try:
        return parse_keywords((path / KEYWORDS).read_text("utf-8", "replace"))
    except FileNotFoundError:
        return []


def parse_keywords(text: str) -> list[str]:
    """The same of the file's text."""
    names: dict[int, str] = {}
    for line in text.splitlines():
        number, _, name = line.partition(" ")
        if number.isdigit() and int(number) < MAX_KEYWORDS and name and name not in names.values():
            names.setdefault(int(number), name)
    return [names.get(n, "") for n in range(max(names, default=-1) + 1)]


def write_keywords(path: Path, names: list[str]) -> None:
    """Replaces the list of keywords; call with the lock held."""
    replace(path / KEYWORDS, "".join(f"{n} {name}\n" for n, name in enumerate(names) if name))
