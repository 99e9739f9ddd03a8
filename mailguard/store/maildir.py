"""Maildir files: their names, their flags, and how one gets safely from ``tmp`` to where readers look."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mailguard.store import durable

LETTERS = {"D": "\\Draft", "F": "\\Flagged", "P": "$Forwarded", "R": "\\Answered", "S": "\\Seen", "T": "\\Deleted"}
FOLDERS = ("tmp", "new", "cur")  # in the order of their making: where ``cur`` is, the others are
_TMP_LIFE = 36 * 3600  # seconds; older files in tmp belong to nobody
_SIZE = re.compile(r",S=(\d+)(?=[,:]|\Z)")
_WIRE_SIZE = re.compile(r",W=(\d+)(?=[,:]|\Z)")
_IDENT = re.compile(r"[A-Za-z0-9-]{1,64}\Z")
_IDENT_IN_NAME = re.compile(r"\d+\.M\d+P\d+Q\d+I([A-Za-z0-9-]+)\.")
_MAX_BASE = 255 - len(":2,DFPRST") - 26  # octets
_counter = itertools.count()


@dataclass(frozen=True, slots=True)
class Entry:
    """One message file: ``base`` is the part of its name that never changes, ``folder`` ``cur`` or ``new``."""

    base: str
    folder: str
    name: str

    @property
    def letters(self) -> str:
        """The flag letters, in the order they stand."""
        return split_name(self.name)[1]


def split_name(name: str) -> tuple[str, str, str]:
    """Base name, flag letters, and what foreign software put behind a second comma (kept as it is)."""
    base, colon, info = name.rpartition(":")
    if not colon:
        return name, "", ""
    if not info.startswith("2,"):
        return base, "", ""
    letters, comma, foreign = info[2:].partition(",")
    return base, letters, comma + foreign


def fits(base: str) -> bool:
    """Whether a base name can stand in a uidlist and take every flag there is; foreign ones need not."""
    return base[:1] not in ("", ":") and "\n" not in base and (len(base) < 80 or len(os.fsencode(base)) <= _MAX_BASE)


def join_name(base: str, letters: Iterable[str], foreign: str = "") -> str:
    """The name with these flag letters, in ASCII order as the format wants them."""
    return f"{base}:2,{''.join(sorted(set(letters)))}{foreign}"


def host_part(host: str = "") -> str:
    """Our host name as it may stand in a file name."""
    return (host or socket.gethostname()).replace("/", "\\057").replace(":", "\\072")


def unique_base(
    host: str, size: int, *, now: float | None = None, wire_size: int | None = None, ident: str = ""
) -> str:
    """A name nobody else makes: time, process and a counter of this process; S and W are the sizes in octets.
    ``ident`` is the message's id in the log, if it has one: then it stands in the name, too."""
    at = time.time() if now is None else now
    stamp = f"{int(at)}.M{int(at % 1 * 1_000_000):06d}P{os.getpid()}Q{next(_counter)}"
    if ident and _IDENT.match(ident):
        stamp += f"I{ident}"
    return f"{stamp}.{host},S={size},W={size if wire_size is None else wire_size}"


def ident_of(name: str) -> str:
    """The id that the message had in the log, ``""`` where the file's name tells none."""
    found = _IDENT_IN_NAME.match(name)
    return found[1] if found else ""


def stated_size(name: str) -> int | None:
    """The octets on the wire that the name states, None if it states none."""
    found = _WIRE_SIZE.search(name)
    return int(found[1]) if found else None


def octets(name: str) -> int:
    """The octets of the file that the name states, 0 if it states none."""
    found = _SIZE.search(name)
    return int(found[1]) if found else 0


def create(path: Path) -> None:
    """Makes a Maildir, or what is missing of it."""
    for folder in FOLDERS:
        (path / folder).mkdir(mode=0o700, parents=True, exist_ok=True)


def mend(path: Path) -> None:
    """Makes what a backup without empty folders left out of a Maildir."""
    if not (os.path.isdir(path / "new") and os.path.isdir(path / "tmp")):
        create(path)


def is_maildir(path: Path) -> bool:
    """Whether there is one."""
    return os.path.isdir(f"{path}/cur")


def link(source: str, target: str) -> None:
    """A hard link, or a copy where the file system cannot link, with its times. Raises OSError."""
    try:
        os.link(source, target)
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError:
        with open(source, "rb") as file:
            durable.write(target, [file.read()], mtime=os.fstat(file.fileno()).st_mtime)


def scan(path: Path | str) -> tuple[dict[str, Entry], list[Entry]]:
    """Every message file by base name, and further files of the same base name. One that moves meanwhile is found
    in ``cur``, where readers move it."""
    found: dict[str, Entry] = {}
    doubles, moved = [], []
    for folder in ("new", "cur"):
        listed: list[str] = []  # at once: the less is renamed meanwhile, the better
        with contextlib.suppress(FileNotFoundError):
            listed = os.listdir(f"{path}/{folder}")
        for name in listed:
            if name.startswith("."):
                continue
            base = name.rpartition(":")[0] or name
            other = found.get(base)
            if other is not None and other.folder == folder:
                doubles.append(Entry(base, folder, name))
            else:
                if other is not None:
                    moved.append(other)
                found[base] = Entry(base, folder, name)
    return found, doubles + [entry for entry in moved if os.path.exists(f"{path}/new/{entry.name}")]


def names(folder: Path | str) -> Iterator[str]:
    """The names of the files in ``cur``, ``new`` or ``tmp``, one by one as the folder gives them; none where it is
    gone."""
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                yield entry.name


def arrival_order(base: str) -> tuple[int, int, str]:
    """Sorts new files by the time in their names, then by name."""
    match = re.match(r"(\d+)\.(?:.*?M(\d+))?", base)
    return (int(match[1]), int(match[2] or 0), base) if match else (0, 0, base)


def arrival_time(base: str) -> float:
    """The time in a name, Unix time; 0 where it tells none."""
    second, micro, _ = arrival_order(base)
    return second + (micro / 1e6 if micro < 1_000_000 else 0)


def purge_tmp(path: Path, *, now: float | None = None) -> int:
    """Removes what crashed deliveries left in ``tmp``; returns how many files."""
    limit = (time.time() if now is None else now) - _TMP_LIFE
    count = 0
    for name in list(names(path / "tmp")):
        file = path / "tmp" / name
        with contextlib.suppress(OSError):
            if file.stat().st_mtime < limit:
                file.unlink()
                count += 1
    return count


def messages(path: Path) -> Iterator[bytes]:
    """All messages in a Maildir and its folders, in order of arrival. One that goes meanwhile is left out."""
    files = [file for folder in ("cur", "new") for file in path.rglob(f"{folder}/*") if file.is_file()]
    for file in sorted(files, key=lambda file: arrival_order(file.name)):
        with contextlib.suppress(OSError):
            yield file.read_bytes()
