"""Large messages on their way in: kept in a file without a name, so that memory does not grow with them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from mmap import ACCESS_READ, mmap
from pathlib import Path


class Spool:
    """One message. What is wrong with the disk is remembered in ``error`` and told at the end, for its client goes
    on sending whatever we think of it. Nothing is left behind after a crash."""

    def __init__(self, folder: Path) -> None:
        self.error: OSError | None = None
        self._descriptor = -1
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
                self._descriptor = os.dup(file.fileno())
        except OSError as error:
            self.error = error

    def write(self, piece: bytes) -> None:
        """Adds octets."""
        view = memoryview(piece)
        try:
            while view and self.error is None:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            self.error = error
            self.close()  # gives the room back at once

    def octets(self) -> mmap | bytes:
        """All of it, mapped. Raises OSError: that which happened on the way, too."""
        if self.error is not None:
            raise self.error
        if not os.fstat(self._descriptor).st_size:
            return b""
        return mmap(self._descriptor, 0, access=ACCESS_READ)

    def close(self) -> None:
        """Lets the file go; what was mapped of it stays."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


def has_room(folder: Path, octets: int) -> bool:
    """Whether the disk of a folder has room for so much, as far as it tells."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return True  # whatever is wrong there will be told by whoever writes
    return disk.f_bavail * disk.f_frsize >= octets


def spooled(folder: Path, pieces: Iterable[bytes]) -> mmap | bytes:
    """These pieces as one mapped file. Raises OSError."""
    spool = Spool(folder)
    try:
        for piece in pieces:
            spool.write(piece)
        return spool.octets()
    finally:
        spool.close()
