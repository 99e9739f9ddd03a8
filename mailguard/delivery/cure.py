"""What to do about a disk or a database that fails, for the log."""

from __future__ import annotations

import errno

_CURES = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "raise the disk quota of the server's user",
    errno.EROFS: "the file system is mounted read-only: see `dmesg`, remount it",
    errno.EACCES: "the folder must belong to the server's user",
    errno.EPERM: "the folder must belong to the server's user",
    errno.EIO: "the disk is failing: see `dmesg`",
    errno.EMFILE: "raise LimitNOFILE",
}


def cure(error: Exception) -> str:
    """What to do about an error of the store or the queue, for the log."""
    if isinstance(error, OSError):
        return _CURES.get(error.errno or 0, "see the file system of the data folder")
    return "see the state database: its disk may be full, or another program holds its lock"
