"""Backups of one account: a tar file with its Maildirs as they were at one moment, and a digest of every file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailguard.store import durable, maildir, uidlist
from mailguard.store.account import AccountStore
from mailguard.store.standing import MODSEQ_FILE, first_modseq

MANIFEST = "manifest.json"
_VERSION = 1
_MEMBER = re.compile(
    r"mail/(?:\.[^/]+/)?(?:cur/[^/]+|dovecot-uidlist|dovecot-keywords|subscriptions|mailguard-[a-z-]+|mailguard-seen-[^/]+)\Z"
)


class BackupError(ValueError):
    """The file is no backup, or not as it was written."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a backup says it holds: messages by mailbox name, digests by member name."""

    account: str
    made: float
    mailboxes: dict[str, int]
    digests: dict[str, str]


def write_backup(
    account: AccountStore, name: str, target: Path, step: Callable[[int], None] = lambda n: None
) -> Content:
    """Writes a backup of the account called ``name`` while it is in use; ``step`` is told of messages done. Raises
    OSError, leaving nothing behind."""
    frozen = account.root / "tmp" / f"backup-{os.getpid()}-{time.time_ns()}"
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        mailboxes = freeze(account, frozen)
        with open(beside, "xb") as file, tarfile.open(fileobj=file, mode=_mode("w", target)) as tar:
            digests = dict(_add_all(tar, frozen, step))
            content = Content(name, time.time(), mailboxes, digests)
            _add_manifest(tar, content)
            tar.close()
            file.flush()
            os.fsync(file.fileno())
        os.rename(beside, target)
        durable.sync_folder(target.absolute().parent)
    finally:
        shutil.rmtree(frozen, ignore_errors=True)
        beside.unlink(missing_ok=True)
    return content


def _mode(letter: str, path: Path) -> Any:
    return f"{letter}:gz" if path.suffix in (".gz", ".tgz") else f"{letter}:"


def freeze(account: AccountStore, target: Path) -> dict[str, int]:
    """Links all messages of an account into a new folder, each mailbox as it is at one moment; returns how many each
    has."""
    counts = {}
    for name in account.names():
        mailbox = account.mailbox(name)
        folder = target if mailbox.path == account.root else target / mailbox.path.name
        (folder / "cur").mkdir(parents=True)
        counts[name] = mailbox.freeze(folder)
    for file in ("subscriptions", "mailguard-special-use", uidlist.VALIDITY):
        if (account.root / file).exists():
            shutil.copy2(account.root / file, target / file)
    return counts


def _add_all(tar: tarfile.TarFile, frozen: Path, step: Callable[[int], None]) -> Iterator[tuple[str, str]]:
    for folder, _, names in os.walk(frozen):
        for name in sorted(names):
            path = Path(folder) / name
            member = tar.gettarinfo(path, f"mail/{path.relative_to(frozen)}")
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            if member.islnk():  # the same message in two mailboxes: each for itself
                member.type, member.linkname, member.size = tarfile.REGTYPE, "", path.stat().st_size
            data = path.read_bytes()
            tar.addfile(member, io.BytesIO(data))
            yield member.name, hashlib.sha256(data).hexdigest()
            if folder.endswith("/cur"):
                step(1)


def _add_manifest(tar: tarfile.TarFile, content: Content) -> None:
    told = {"version": _VERSION, "account": content.account, "made": content.made, "mailboxes": content.mailboxes}
    data = json.dumps(told | {"digests": content.digests}).encode("utf-8", "surrogateescape")
    member = tarfile.TarInfo(MANIFEST)
    member.size, member.mtime = len(data), int(content.made)
    tar.addfile(member, io.BytesIO(data))


def read_backup(file: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Every file of a backup. Raises BackupError at the first that is not as it was written, or at the end where one
    is missing."""
    found: dict[str, str] = {}
    manifest: dict[str, Any] | None = None
    try:
        with tarfile.open(file, mode="r:*") as tar:
            for member in tar:
                source = tar.extractfile(member)
                data = source.read() if source else b""
                if member.name == MANIFEST:
                    manifest = json.loads(data.decode("utf-8", "surrogateescape"))
                elif not _MEMBER.match(member.name) or not member.isfile():
                    raise BackupError(f"{file}: {member.name!r} has no business in a backup")
                else:
                    found[member.name] = hashlib.sha256(data).hexdigest()
                    yield member, data
    except (tarfile.TarError, EOFError, json.JSONDecodeError, OSError) as error:
        raise BackupError(f"{file} cannot be read to its end: {error}") from error
    if manifest is None or manifest.get("version") != _VERSION:
        raise BackupError(f"{file} is no backup of ours, or is cut off: it has no manifest")
    wrong = sorted(name for name, digest in manifest["digests"].items() if found.get(name) != digest)
    if wrong or len(found) != len(manifest["digests"]):
        raise BackupError(f"{file}: {len(wrong)} files are not as they were written, {', '.join(wrong[:3])}")


def verify_backup(file: Path) -> int:
    """Reads all of a backup; returns how many messages it holds. Raises BackupError."""
    return sum("/cur/" in member.name for member, _ in read_backup(file))


def restore_account(file: Path, root: Path) -> int:
    """Puts a backup where an account's Maildir belongs, which must not exist; returns how many messages came. UIDs
    stay as they were; no UID that may have been given since is given again. Raises BackupError, OSError."""
    beside = root.with_name(f".{root.name}.restore-{os.getpid()}")
    count = 0
    try:
        maildir.create(beside)
        for member, data in read_backup(file):
            path = beside / member.name.removeprefix("mail/")
            if not path.parent.is_dir():
                maildir.create(path.parent.parent if path.parent.name == "cur" else path.parent)
            path.write_bytes(data)
            os.utime(path, (member.mtime, member.mtime))
            count += path.parent.name == "cur"
        for folder in (beside, *(path for path in beside.glob(".*") if path.is_dir())):
            maildir.create(folder)
            _leave_a_gap(folder)
        os.sync()
        os.rename(beside, root)
        durable.sync_folder(root.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return count


def _leave_a_gap(folder: Path) -> None:
    listed = uidlist.read_uidlist(folder)
    if listed is not None:
        listed.next_uid += uidlist.GAP  # mail that came after the backup may have had some of them
        uidlist.write_uidlist(folder, listed)
    uidlist.replace(folder / MODSEQ_FILE, f"{first_modseq(str(folder)) + (1 << 32)}\n")


def messages_of(file: Path, folder: str) -> Iterator[tuple[str, bytes, float]]:
    """The messages of one mailbox in a backup: file name, octets, INTERNALDATE. ``folder`` is its Maildir++ folder,
    ``""`` the INBOX's. Raises BackupError."""
    place = f"mail/{folder}/cur/" if folder else "mail/cur/"
    for member, data in read_backup(file):
        if member.name.startswith(place):
            yield member.name.rpartition("/")[2], data, member.mtime


def keywords_of(file: Path, folder: str) -> list[str]:
    """The keywords of that mailbox, by letter. Raises BackupError, also where the backup holds no such mailbox."""
    place = f"mail/{folder}/" if folder else "mail/"
    there = False
    for member, data in read_backup(file):
        if member.name == place + uidlist.KEYWORDS:
            return uidlist.parse_keywords(data.decode("utf-8", "replace"))
        there = there or member.name.startswith(place)
    if not there:
        raise BackupError(f"{file} holds no mailbox of that name (it would be the folder {folder})")
    return []
