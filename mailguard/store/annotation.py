"""Metadata of mailboxes: what clients keep with them, in one file beside the mail (RFC 5464)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from mailguard.store import uidlist
from mailguard.store.lock import mailbox_lock

FILE = "mailguard-metadata"
MAX_SIZE = 65_536  # octets of one value
MAX_COUNT = 200  # entries of one mailbox


class AnnotationLimitError(ValueError):
    """A value is too long (``size`` octets are allowed), or (``size`` 0) there are too many entries."""

    def __init__(self, text: str, size: int = 0) -> None:
        super().__init__(text)
        self.size = size


class Annotations:
    """The metadata of the account whose INBOX is the Maildir ``root``; the empty mailbox name is the server."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _read(self) -> dict[str, dict[str, str]]:
        try:
            found: dict[str, dict[str, str]] = json.loads((self._root / FILE).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return found

    def of(self, mailbox: str) -> dict[str, bytes]:
        """All entries of a mailbox by name."""
        return self.all().get(mailbox, {})

    def all(self) -> dict[str, dict[str, bytes]]:
        """The entries of every mailbox that has some."""
        return {
            mailbox: {name: value.encode("latin-1") for name, value in entries.items()}
            for mailbox, entries in self._read().items()
        }

    def change(self, mailbox: str, entries: Iterable[tuple[str, bytes | None]]) -> None:
        """Sets entries, or removes those whose value is None; all or none. Raises AnnotationLimitError."""
        with mailbox_lock(str(self._root)):
            everything = self._read()
            mine = dict(everything.get(mailbox, {}))
            for name, value in entries:
                if value is None:
                    mine.pop(name, None)
                elif len(value) > MAX_SIZE:
                    raise AnnotationLimitError(f"{name} is longer than {MAX_SIZE} octets", MAX_SIZE)
                else:
                    mine[name] = value.decode("latin-1")
            if len(mine) > MAX_COUNT:
                raise AnnotationLimitError(f"a mailbox may have {MAX_COUNT} entries")
            self._write(everything | {mailbox: mine})

    def rename(self, old: str, new: str | None) -> None:
        """The mailbox and those below it have other names now, or (None) are gone."""
        if not (self._root / FILE).exists():
            return
        with mailbox_lock(str(self._root)):
            everything = self._read()
            for name in [n for n in everything if n and (n == old or (new is not None and n.startswith(old + "/")))]:
                entries = everything.pop(name)
                if new is not None:
                    everything[new + name[len(old) :]] = entries
            self._write(everything)

    def _write(self, everything: dict[str, dict[str, str]]) -> None:
        kept = {name: entries for name, entries in everything.items() if entries}
        uidlist.replace(self._root / FILE, json.dumps(kept, ensure_ascii=True))
