"""The queue's body files, and the bell that tells the runner of new ones."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from mmap import ACCESS_READ, mmap
from pathlib import Path

from mailguard.model.envelope import Envelope, Recipient
from mailguard.model.message import Message
from mailguard.store import durable

_STEM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}\Z")
_MAP_FROM = 1 << 20  # octets: below, reading is cheaper than mapping
_BLOCK = 1 << 18
_BELL = "bell"
ORPHANS = "orphan"


class BodyFolder:
    """``data_dir/queue``: one ``ID.eml`` per message, written once, never changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkfifo(folder / _BELL, 0o600)
        self._bell = -1

    def after_fork(self) -> None:
        """Forgets the parent's descriptor of the bell."""
        self._bell = -1

    def path(self, stem: str) -> Path:
        """Where the body of the message of this id lies."""
        return self.folder / f"{stem}.eml"

    def write(self, wanted: str, message: Message) -> str:
        """Writes and fsyncs the body and its directory entry; returns the id it got. Raises OSError, ValueError."""
        if not _STEM.match(wanted):
            raise ValueError(f"{wanted!r} cannot name a queue file")
        stem = self._create(wanted, message)
        try:
            if not durable.keeps_order(self.folder.stat().st_dev):  # where it does, the file's fsync did both
                durable.sync_folder(self.folder)
        except BaseException:
            self.discard(stem)
            raise
        return stem

    def _create(self, wanted: str, message: Message) -> str:
        # The same message may come twice, once per reverse path.
        for n in range(1, 100):
            stem = wanted if n == 1 else f"{wanted}-{n}"
            with contextlib.suppress(FileExistsError):
                durable.write(self.path(stem), message.chunks())
                return stem
        raise FileExistsError(f"{wanted} is in the queue a hundred times")

    def read(self, stem: str) -> Message:
        """The message, mapped where it is large. Raises OSError."""
        fd = os.open(self.path(stem), os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Its size first: a buffer for the largest that is read at once costs more than the question.
            size = os.fstat(fd).st_size
            return Message(os.read(fd, size) if size <= _MAP_FROM else mmap(fd, 0, access=ACCESS_READ))
        finally:
            os.close(fd)

    def discard(self, stem: str) -> None:
        """Removes the body, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self.path(stem).unlink()

    def set_aside(self, stem: str) -> None:
        """Moves a body that no row speaks of into the folder ``orphan``, where nothing looks for it."""
        folder = self.folder / ORPHANS
        folder.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            target = folder / f"{stem}.eml"
            self.path(stem).rename(target)
            os.utime(target)

    def forget_orphans(self, before: float) -> int:
        """Deletes orphans set aside before this Unix time; returns how many."""
        count = 0
        for path in (self.folder / ORPHANS).glob("*.eml"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    count += 1
        return count

    def old(self, before: float, *, page: int = 500) -> Iterator[list[str]]:
        """The ids of body files last written before this Unix time, in pages."""
        stems: list[str] = []
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.name.endswith(".eml") and entry.stat().st_mtime < before:
                        stems.append(entry.name.removesuffix(".eml"))
                if len(stems) >= page:
                    yield stems
                    stems = []
        if stems:
            yield stems

    def ring(self) -> None:
        """Tells whichever process runs the queue that something is due; lost if none does, which is harmless."""
        with contextlib.suppress(OSError):
            if self._bell < 0:
                self._bell = os.open(self.folder / _BELL, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            os.write(self._bell, b"!")

    def open_bell(self) -> int:
        """A descriptor that becomes readable when the bell rings; the caller closes it."""
        return os.open(self.folder / _BELL, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def needs_8bit(message: Message) -> bool:
    """Whether any octet of it has its high bit set: what BODY=8BITMIME is for (RFC 6152)."""
    if not message.header.isascii():
        return True
    body = message.body
    return any(not bytes(body[at : at + _BLOCK]).isascii() for at in range(0, len(body), _BLOCK))


def needs_utf8(envelope: Envelope, message: Message, recipients: Sequence[Recipient]) -> bool:
    """Whether it can only travel under SMTPUTF8: a non-ASCII address or header section (RFC 6531 §3.5)."""
    if envelope.mail_from and envelope.mail_from.needs_utf8:
        return True
    return any(r.address.needs_utf8 for r in recipients) or not message.header.isascii()


def tls_optional(message: Message) -> bool:
    """Whether its author asked to put delivery before TLS policy: one ``TLS-Required: No`` (RFC 8689 §3)."""
    if b"TLS-Required" not in message.header and b"tls-required" not in message.header.lower():
        return False
    fields = Message(message.header).get_all("TLS-Required")
    return len(fields) == 1 and fields[0].value.lower() == "no"
