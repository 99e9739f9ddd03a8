"""Brings the files of a Maildir to where, and under names with which, they can be numbered."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from mailguard.store import maildir
from mailguard.store.forget import Row
from mailguard.store.lock import Tell
from mailguard.store.maildir import Entry


def base_of(name: str) -> str:
    """The part of a file name that never changes."""
    return name.rpartition(":")[0] or name


class Settling:
    """Use with the mailbox's lock held. ``tell`` hears of every repair."""

    def __init__(self, path: str, host: str, tell: Tell) -> None:
        self._path = path
        self._host = host
        self._tell = tell
        self._moved = False  # whether ``cur`` was changed by us

    def _settle(self, entries: dict[str, Entry]) -> dict[str, Entry]:
        """Moves ``new`` to ``cur``, as a reader does."""
        for base, entry in list(entries.items()):
            if entry.folder == "new":
                self._moved = True
                name = entry.name if ":2," in entry.name else f"{entry.name}:2,"
                try:
                    if not maildir.fits(base) or os.path.exists(f"{self._path}/cur/{name}"):
                        name = self._other_name(entry)
                    os.rename(f"{self._path}/new/{entry.name}", f"{self._path}/cur/{name}")
                except FileNotFoundError:
                    del entries[base]
                else:
                    if base_of(name) != base:
                        del entries[base]
                    entries[base_of(name)] = Entry(base_of(name), "cur", name)
        return entries

    def _other_name(self, entry: Entry) -> str:
        """A name that a uidlist can hold, for a file that has none, or has another's."""
        octets = os.stat(f"{self._path}/{entry.folder}/{entry.name}").st_size
        base = maildir.unique_base(self._host, octets, wire_size=maildir.stated_size(entry.name))
        name = maildir.join_name(base, entry.letters)
        self._tell("a message file gets another name and a UID of its own", file=entry.name, name=name)
        return name

    def _rename(self, entry: Entry, entries: dict[str, Entry]) -> None:
        """Gives a file in ``cur`` such a name, and adds it to the entries."""
        with contextlib.suppress(FileNotFoundError):
            name = self._other_name(entry)
            os.rename(f"{self._path}/{entry.folder}/{entry.name}", f"{self._path}/cur/{name}")
            entries[base_of(name)] = Entry(base_of(name), "cur", name)
        self._moved = True

    def _separate(self, doubles: Iterable[Entry], entries: dict[str, Entry], rows: dict[str, Row]) -> None:
        """Two files of one base name: one message twice, or a file put back from a backup; neither may be lost, and
        the one that the index knows keeps its UID."""
        for double in doubles:
            self._moved = True
            if double.base not in entries:  # that one got another name already
                self._rename(double, entries)
                continue
            if double.folder == "cur" and double.base in rows and rows[double.base].name == double.name:
                double, entries[double.base] = entries[double.base], double
            path, other = (f"{self._path}/{e.folder}/{e.name}" for e in (double, entries[double.base]))
            with contextlib.suppress(FileNotFoundError):
                if os.path.samefile(path, other):
                    os.unlink(path)
                else:
                    self._rename(double, entries)
