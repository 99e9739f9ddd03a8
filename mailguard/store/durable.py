"""Files that survive a power cut: written whole, then named, by one commit of the journal where one is enough."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

_MOST_CHUNKS = 1000  # in one writev; Linux takes 1024
_WRITE, _WRITE_AND_WAIT = 2, 7  # flags of sync_file_range(2)
_NOT_HERE = {errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.ESPIPE}

Chunks = Iterable[bytes | memoryview]


def write(target: Path | str, chunks: Chunks, *, mtime: float | None = None) -> None:
    """Writes a file that is not there yet and fsyncs it. Raises OSError, leaving nothing behind."""
    with _written(target, chunks, mtime) as descriptor:
        os.fsync(descriptor)


@contextlib.contextmanager
def writing_ahead(target: Path | str, chunks: Chunks, *, mtime: float | None = None) -> Iterator[None]:
    """Writes a file that is not there yet; the disk works on it while the body runs. After that it becomes durable
    with the next change on its file system that is fsynced, where order is kept (see ``put``); elsewhere it is fsynced
    itself. Raises OSError, leaving nothing behind."""
    with _written(target, chunks, mtime) as descriptor:
        begin(descriptor)
        yield
        if not _is_ahead(descriptor):
            os.fsync(descriptor)


@contextlib.contextmanager
def _written(target: Path | str, chunks: Chunks, mtime: float | None) -> Iterator[int]:
    """A new file with these octets, open while the body runs; where that fails the file is removed."""
    descriptor = _create(target)
    try:
        try:
            _write_all(descriptor, chunks, mtime)
            yield descriptor
        finally:
            os.close(descriptor)
    except BaseException:
        _remove(target)
        raise


def begin(descriptor: int) -> None:
    """Lets the disk begin with a file's octets: whoever fsyncs it waits less. It fails in silence: that does not."""
    if _sync_file_range is not None:
        _sync_file_range(descriptor, 0, 0, _WRITE)


def put(spooled: str, target: str, chunks: Chunks) -> None:
    """Writes a file as ``spooled`` and renames it to ``target``, on the same file system: nobody ever sees a part of
    it there, not even after a power cut, and once this returns it is there for good. Raises OSError, leaving nothing
    behind: whoever sent the message will send it again.

    POSIX wants two fsyncs, of the file before its rename and of the folder after it. A file system that keeps its
    changes of metadata in order (see ``keeps_order``) needs one, of the file after its rename: the octets are on
    the disk before the journal can name them, and what makes the last change of the inode durable, its rename, makes
    all before it durable. Postfix trusts in the same: an fsync of the file, never of a folder.
    """
    descriptor = _create(spooled)
    try:
        try:
            _write_all(descriptor, chunks)
            once = _is_ahead(descriptor)
            if not once:
                os.fsync(descriptor)
            os.rename(spooled, target)
            if once:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if not once:
            sync_folder(os.path.dirname(target))
    except BaseException:
        _remove(spooled)
        _remove(target)
        raise


def put_link(source: str, target: str) -> None:
    """Gives a durable file one more name, durably. Raises OSError, leaving nothing behind."""
    os.link(source, target)
    try:
        sync_folder(os.path.dirname(target))
    except OSError:
        _remove(target)
        raise


def sync_folder(folder: Path | str) -> None:
    """Makes renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(target: Path | str) -> int:
    return os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _write_all(descriptor: int, chunks: Chunks, mtime: float | None = None) -> None:
    left = [memoryview(chunk) for chunk in chunks]
    while left:
        count = os.writev(descriptor, left[:_MOST_CHUNKS])
        while left and count >= len(left[0]):
            count -= len(left.pop(0))
        if count:
            left[0] = left[0][count:]
    if mtime is not None:
        os.utime(descriptor, (mtime, mtime))


def _remove(path: Path | str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


@lru_cache(maxsize=64)
def keeps_order(device: int) -> bool:
    """Whether the file system with this ``st_dev`` commits changes of metadata in their order, takes a file into them
    only when its octets have been written, and writes both to one disk: ext4 with a journal of its own, XFS. On
    btrfs an octet may come after its file's name; of others we know nothing."""
    if _sync_file_range is None:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            kind, options = mounted(file.read(), number)
        if kind == "xfs":
            return not re.search(r"\b(?:logdev|rtdev)=", options)
        return kind == "ext4" and "journal_async_commit" not in options and _has_journal(number)
    except OSError:
        return False


def mounted(mountinfo: str, device: str) -> tuple[str, str]:
    """The type and the options of the file system on ``device``, ``MAJOR:MINOR``; empty where it is not mounted. See
    proc_pid_mountinfo(5)."""
    for line in mountinfo.splitlines():
        mount, _, system = line.partition(" - ")
        words, about = mount.split(" "), system.split(" ")
        if len(words) > 5 and words[2] == device and len(about) > 2:
            return about[0], f"{words[5]},{about[2]}"
    return "", ""


def _has_journal(number: str) -> bool:
    """Whether an ext4 has a journal, within itself as far as we are shown."""
    name = os.path.basename(os.path.realpath(f"/sys/dev/block/{number}"))
    if os.path.isdir("/proc/fs/jbd2"):
        return os.path.exists(f"/proc/fs/jbd2/{name}-8")  # the inode that every journal of its own has
    with open(f"/sys/fs/ext4/{name}/journal_task", encoding="ascii") as file:  # a service may not see all of /proc
        return file.read().strip().isdigit()


def _is_ahead(descriptor: int) -> bool:
    """Whether a file's octets are on the disk before whatever changes next on its file system can be durable."""
    return keeps_order(os.fstat(descriptor).st_dev) and _reached_disk(descriptor)


def _reached_disk(descriptor: int) -> bool:
    """Writes out a file's octets, not its metadata, and waits; False where that cannot be asked for. Raises OSError."""
    assert _sync_file_range is not None
    if _sync_file_range(descriptor, 0, 0, _WRITE_AND_WAIT) == 0:
        return True
    error = ctypes.get_errno()
    if error in _NOT_HERE:
        return False
    raise OSError(error, os.strerror(error))


def _find_sync_file_range() -> ctypes._NamedFuncPointer | None:
    """The call, where it waits for all (since Linux 5.2)."""
    version = re.match(r"(\d+)\.(\d+)", platform.release())
    if platform.system() != "Linux" or version is None or (int(version[1]), int(version[2])) < (5, 2):
        return None
    found = getattr(ctypes.CDLL(None, use_errno=True), "sync_file_range", None)
    if found is not None:
        found.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
        found.restype = ctypes.c_int
    return found


_sync_file_range = _find_sync_file_range()
