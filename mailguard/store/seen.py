"""What one member has seen of a shared mailbox: a small file beside the mail, a line for every change.

``1 V1700000000`` (the UIDVALIDITY), then ``+1:40,42`` for messages that were seen and ``-42`` for those that were not
after all, in the order in which that happened."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from mailguard.protocol.imap.sequence import SequenceError, SequenceSet, render_set
from mailguard.store import uidlist

_NAME = "mailguard-seen-"
_LINES = 500  # after which the file is written anew
_BESIDE = re.compile(r"\.\d+\.[0-9a-f]{8}\Z")  # one that is being written (see uidlist.replace)


def seen_name(member: str) -> str:
    """The name of a member's file in the mailbox's Maildir."""
    return _NAME + quote(member, safe="@")


def seen_files(path: Path) -> list[str]:
    """The names of all members' files there."""
    return sorted(name for name in os.listdir(path) if name.startswith(_NAME) and not _BESIDE.search(name))


class SeenError(ValueError):
    """The file cannot be read, or is of another UIDVALIDITY."""


class SeenFile:
    """One member's file. Use with the mailbox's lock held."""

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, uid_validity: int, uids: Sequence[int]) -> tuple[set[int], bool]:
        """Those of the UIDs (ascending) that were seen, and whether the file should be written anew. Raises SeenError,
        FileNotFoundError."""
        head, *lines = Path(self.path).read_bytes().decode("ascii", "replace").split("\n")
        if head != f"1 V{uid_validity}":
            raise SeenError(f"it begins with {head[:40]!r}, and UIDVALIDITY is {uid_validity}")
        torn = lines.pop() if lines else "?"  # a last line without an end: nobody was told of it
        seen: set[int] = set()
        for line in lines:
            try:
                found = SequenceSet.parse(line[1:]).uids(uids)
            except SequenceError as error:
                raise SeenError(str(error)) from None
            (seen.update if line[0] == "+" else seen.difference_update)(found)
        return seen, bool(torn) or len(lines) > _LINES

    def write(self, uid_validity: int, uids: Iterable[int], seen: set[int]) -> None:
        """Replaces the file. ``uids`` are all that there are, ascending: what lies between two that were seen and is
        not there never will be, and is counted in, so that the file stays small. Raises OSError."""
        runs: list[list[int]] = []
        before = False
        for uid in uids:
            if uid in seen:
                if before:
                    runs[-1][1] = uid
                else:
                    runs.append([uid, uid])
            before = uid in seen
        text = ",".join(str(low) if low == high else f"{low}:{high}" for low, high in runs)
        uidlist.replace(Path(self.path), f"1 V{uid_validity}\n" + (f"+{text}\n" if text else ""))

    def add(self, uids: Iterable[int], seen: bool) -> None:
        """Adds a line, at a cost that does not depend on the file; to be made durable before anybody hears of it.
        Raises OSError, leaving the file as it was."""
        line = f"{'+' if seen else '-'}{render_set(sorted(uids))}\n".encode()
        with open(self.path, "r+b", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                while line:
                    line = line[file.write(line) :]
            except OSError:
                file.truncate(size)
                raise
