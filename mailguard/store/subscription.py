"""The names a user subscribed to, in Dovecot's file, and the special uses given to mailboxes (RFC 6154)."""

from __future__ import annotations

import contextlib
from pathlib import Path

from mailguard.protocol.imap.mailboxname import decode_name
from mailguard.store import uidlist

SEPARATOR = "/"
DEFAULT_USES = {"Drafts": "\\Drafts", "Sent": "\\Sent", "Junk": "\\Junk", "Trash": "\\Trash", "Archive": "\\Archive"}
_SUBSCRIPTIONS = "subscriptions"
_USES = "mailguard-special-use"


def read_subscriptions(root: Path) -> list[str]:
    """The names, from version 1 or 2 of the file."""
    try:
        lines = (root / _SUBSCRIPTIONS).read_text("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return []
    if lines[0] == "V\t2":
        return [line.replace("\t", SEPARATOR) for line in lines[2:] if line]
    names = []
    for line in filter(None, lines):
        with contextlib.suppress(ValueError):
            names.append(SEPARATOR.join(decode_name(part) for part in line.split(".")))
    return names


def write_subscriptions(root: Path, names: list[str]) -> None:
    """Replaces the file, in version 2."""
    lines = (name.replace(SEPARATOR, "\t") + "\n" for name in dict.fromkeys(names))
    uidlist.replace(root / _SUBSCRIPTIONS, "V\t2\n\n" + "".join(lines))


def read_uses(root: Path) -> dict[str, str]:
    """Special uses by mailbox name: those given, and the usual names for uses that nobody gave away."""
    given: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):
        for line in (root / _USES).read_text("utf-8", "replace").splitlines():
            use, _, name = line.partition("\t")
            given[name] = use
    taken = {use for uses in given.values() for use in uses.split()}
    return {name: use for name, use in DEFAULT_USES.items() if use not in taken} | given


def write_uses(root: Path, uses: dict[str, str]) -> None:
    """Replaces what was given; the usual ones need not be written."""
    given = {name: use for name, use in uses.items() if DEFAULT_USES.get(name) != use}
    uidlist.replace(root / _USES, "".join(f"{use}\t{name}\n" for name, use in given.items()))
