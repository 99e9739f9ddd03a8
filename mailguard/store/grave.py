"""Where expunged messages wait until nobody can want them back: ``mailguard-expunged`` in the INBOX's Maildir."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mailguard.store.lock import FULL

FOLDER = "mailguard-expunged"  # no dot before it: no Maildir++ program takes it for a mailbox
_ROOM = 1 << 20  # octets; a disk with less is full


@dataclass(frozen=True, slots=True)
class Buried:
    """One expunged message: ``folder`` is that of its mailbox (``INBOX`` or ``.Sent``), ``at`` when it went, Unix
    time."""

    path: Path
    folder: str
    at: float


class Grave:
    """That of one account."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._at = f"{root}/{FOLDER}"

    def has_room(self) -> bool:
        """Whether the disk can keep what is removed; on a full one the removal is to make room."""
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize >= _ROOM

    @contextlib.contextmanager
    def digging(self, path: str) -> Iterator[Callable[[str], None]]:
        """Gives what takes the file ``cur/NAME`` of the Maildir at ``path`` away, by NAME. On a full disk, where the
        removal is to make room, it goes for good. Raises FileNotFoundError if it is gone, OSError."""
        with contextlib.ExitStack() as stack:
            cur = _opened(f"{path}/cur", stack)
            folder = self._folder(path)
            try:
                os.makedirs(folder, 0o700, exist_ok=True)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                yield partial(os.unlink, dir_fd=cur)
                return
            yield partial(_bury, cur, _opened(folder, stack))

    def _folder(self, path: str) -> str:
        return f"{self._at}/{os.path.basename(path) if path != str(self._root) else 'INBOX'}"

    def bury_mailbox(self, path: Path) -> None:
        """Takes all messages of a Maildir away, then the Maildir."""
        for folder in ("new", "cur"):
            with contextlib.suppress(FileNotFoundError):
                for name in os.listdir(path / folder):
                    os.makedirs(self._folder(str(path)), 0o700, exist_ok=True)
                    os.rename(path / folder / name, f"{self._folder(str(path))}/{name}")
        shutil.rmtree(path)

    def buried(self) -> Iterator[Buried]:
        """All messages that can come back, in no order."""
        with contextlib.suppress(FileNotFoundError):
            for folder in os.listdir(self._at):
                for entry in os.scandir(f"{self._at}/{folder}"):
                    # A rename sets the time of the last status change, and nothing else does.
                    with contextlib.suppress(FileNotFoundError):
                        yield Buried(Path(entry.path), folder, entry.stat().st_ctime)

    def purge(self, before: float) -> int:
        """Removes for good what went before a Unix time; returns how many."""
        count = 0
        for each in self.buried():
            if each.at < before:
                each.path.unlink(missing_ok=True)
                count += 1
        return count


def _opened(folder: str, stack: contextlib.ExitStack) -> int:
    """A folder's descriptor: a path is not walked for each file."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return descriptor


def _bury(cur: int, folder: int, name: str) -> None:
    try:
        os.rename(name, name, src_dir_fd=cur, dst_dir_fd=folder)
    except OSError as error:
        if error.errno not in FULL:
            raise
        os.unlink(name, dir_fd=cur)
