"""A look at a Maildir before it is taken over, and a comparison of the index with the files afterwards."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mailguard.store import maildir, uidlist
from mailguard.store.account import AccountStore
from mailguard.store.content import wire_size
from mailguard.store.folder import FolderTree
from mailguard.store.uidlist import UidlistError

_MAGIC = {
    b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4",
    b"CRYPTED": "mail-crypt",
}  # fmt: skip
_SAMPLE = 25  # files of a folder that are opened
_REPORTED = ("dovecot-acl", ".dovecot.sieve", "dovecot-shared")


@dataclass(slots=True)
class FolderSurvey:
    """What one Maildir folder holds; ``name`` is that of the directory, ``""`` for the INBOX."""

    name: str
    messages: int
    uid_validity: int = 0
    next_uid: int = 0
    keywords: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Survey:
    """``faults`` stand in the way, ``remarks`` do not."""

    folders: list[FolderSurvey] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def survey(root: Path) -> Survey:
    """Looks at a Maildir++ tree without changing anything. Raises OSError."""
    found = Survey()
    if not maildir.is_maildir(root):
        found.faults.append(_no_maildir(root))
        return found
    for path in [root, *sorted(p for p in root.glob(".*") if maildir.is_maildir(p))]:
        if path != root and FolderTree.name_in(path.name) is None:
            found.faults.append(f"{path.name} is no folder name in modified UTF-7 (RFC 9051 §5.1): rename it first")
        found.folders.append(_folder(path, "" if path == root else path.name, found))
    for path in root.iterdir():
        if not path.name.startswith(".") and path.name not in maildir.FOLDERS and maildir.is_maildir(path):
            found.faults.append(
                f"{path} is a mailbox below the INBOX's folder (Dovecot's `LAYOUT=fs`): convert it with"
                " `doveadm sync` to a `maildir:` location without LAYOUT first"
            )
        if path.name in _REPORTED:
            found.remarks.append(f"{path.name} is left as it is: mailguard does not read it")
    if not os.access(root / "cur", os.W_OK):
        found.faults.append(f"{root} belongs to uid {root.stat().st_uid}: chown it to the user that mailguard runs as")
    return found


def _no_maildir(root: Path) -> str:
    if (root / "dbox-Mails").exists() or (root / "storage").is_dir() or (root / "mailboxes").is_dir():
        return f"{root} is in Dovecot's dbox format: convert it with `doveadm backup` to `maildir:`, or import by IMAP"
    return f"{root} is no Maildir: it has no folder cur"


def _folder(path: Path, name: str, found: Survey) -> FolderSurvey:
    label = name or "INBOX"
    validity, next_uid = _numbers(path, label, found)
    messages, used = _count(path)
    keywords = [k for k in uidlist.read_keywords(path) if k]
    made = FolderSurvey(name, messages, validity, next_uid, keywords)
    if messages and not validity:
        found.remarks.append(f"{label}: no dovecot-uidlist: UIDs are given anew")
    if len(made.keywords) >= uidlist.MAX_KEYWORDS:
        found.remarks.append(
            f"{label}: {uidlist.MAX_KEYWORDS} keywords, as many as a Maildir can hold; further ones live only in"
            " Dovecot's index: `doveadm fetch 'uid flags' mailbox NAME` lists them"
        )
    unnamed = sorted(c for c in used if ord(c) - 97 >= len(uidlist.read_keywords(path)))
    if unnamed:
        found.remarks.append(f"{label}: keyword letters without a name are kept but not shown: {' '.join(unnamed)}")
    _look_into(path, label, messages, found)
    return made


def _count(path: Path) -> tuple[int, set[str]]:
    """How many files there are, and the letters of keywords in their names; one by one, however many."""
    count, letters = 0, set[str]()
    for folder in ("new", "cur"):
        for name in maildir.names(path / folder):
            count += 1
            letters.update(filter(str.islower, maildir.split_name(name)[1]))
    return count, letters


def _numbers(path: Path, label: str, found: Survey) -> tuple[int, int]:
    """UIDVALIDITY and the next UID, 0 where there is no list."""
    try:
        listed = uidlist.skim(path)
    except UidlistError as error:
        found.remarks.append(f"{label}: dovecot-uidlist cannot be read ({error}): mail clients will load it anew")
        return 0, 0
    return (listed.uid_validity, listed.next_uid) if listed is not None else (0, 0)


def _look_into(path: Path, label: str, messages: int, found: Survey) -> None:
    step = max(1, messages // _SAMPLE)
    files = (path / folder / name for folder in ("new", "cur") for name in maildir.names(path / folder))
    for file in itertools.islice(files, 0, None, step):
        try:
            data = file.read_bytes()
        except OSError as error:
            found.faults.append(f"{file}: {error.strerror}")
            return
        for magic, kind in _MAGIC.items():
            if data.startswith(magic):
                found.faults.append(f"{label}: messages are packed ({kind}): unpack them with `doveadm` first")
                return
        stated = maildir.stated_size(file.name)
        if stated is not None and stated != wire_size([data]):
            found.remarks.append(f"{label}: {file.name} states a wrong size (W=); sizes are measured where it matters")
            return


def differences(account: AccountStore) -> Iterator[str]:
    """Where the index of an account says something else than its files; nothing is changed that a look would not
    change anyway."""
    for name in account.names():
        mailbox = account.mailbox(name)
        mailbox.refresh()
        entries, _ = maildir.scan(mailbox.path)
        rows = {uid: os.path.basename(path) for uid, path in mailbox.files().items()}
        on_disk = {entry.name for entry in entries.values() if entry.folder == "cur"}
        yield from (f"{name}: {file} is not in the index" for file in sorted(on_disk - set(rows.values())))
        yield from (f"{name}: UID {uid} has no file {file}" for uid, file in rows.items() if file not in on_disk)
        listed = uidlist.read_uidlist(mailbox.path)
        if listed is None:
            yield f"{name}: there is no dovecot-uidlist"
            continue
        known = {record.uid: record.base for record in listed.records}
        for uid, file in rows.items():
            if known.get(uid) != maildir.split_name(file)[0]:
                yield f"{name}: UID {uid} is {known.get(uid, 'not')} in dovecot-uidlist, {file} in the index"
        status = mailbox.status()
        flags = [flags for _, flags in mailbox.rows(None, ("uid", "flags"))]
        counts = (len(flags), sum("\\Seen" not in f for f in flags), sum("\\Deleted" in f for f in flags))
        if counts != (status.messages, status.unseen, status.deleted):
            yield f"{name}: the index counts {status.messages, status.unseen, status.deleted}, there are {counts}"
