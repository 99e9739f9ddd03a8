"""Mail in Maildirs that are not ours, to be copied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mailguard.model.foreign import Foreign
from mailguard.protocol.imap.mailboxname import decode_name
from mailguard.store import maildir, uidlist
from mailguard.store.content import with_crlf
from mailguard.store.flag import flags_of


def maildir_folders(root: Path) -> Iterator[tuple[str, Path]]:
    """The mailboxes of a Maildir++ tree, by name."""
    if maildir.is_maildir(root):
        yield "INBOX", root
    for path in sorted(root.glob(".*")):
        if maildir.is_maildir(path):
            try:
                yield "/".join(decode_name(part) for part in path.name[1:].split(".")), path
            except ValueError:
                yield path.name[1:].replace(".", "/"), path


def maildir_messages(path: Path, name: str, done: set[str]) -> tuple[Iterator[Foreign], set[str]]:
    """The messages of one folder that are not done yet, in the order of their arrival, and the ids of all of them."""
    entries, _ = maildir.scan(path)
    keywords = uidlist.read_keywords(path)

    def messages() -> Iterator[Foreign]:
        for base in sorted(entries, key=maildir.arrival_order):
            if (id := f"{name}\t{base}") not in done:
                entry = entries[base]
                file = path / entry.folder / entry.name
                flags = tuple(flags_of(entry.letters, keywords).split())
                yield Foreign(id, with_crlf(file.read_bytes()), flags, file.stat().st_mtime)

    return messages(), {f"{name}\t{base}" for base in entries}
